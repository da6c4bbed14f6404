//! Holds the tree to its design: heights of rooms, one home for each outside crate, a head in every file. The messages say what to do.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by height: a room imports lower ones only (docs/decisions/0002-rooms.md).
const HEIGHTS: [(u8, &[&str]); 12] = [
    (0, &["event", "file", "octets", "outcome", "spelling", "words"]),
    (1, &["vendor", "machine", "metrics", "spans", "tap"]),
    (2, &["awaited", "claim"]),
    (3, &["body", "gate", "store"]),
    (4, &["dialect", "dedup", "sink"]),
    (5, &["redis", "sns"]),
    (6, &["intake", "forward"]),
    (7, &["listen", "admin", "reach"]),
    (8, &["config", "delivery"]),
    (9, &["logging", "otlp", "systemd"]),
    (10, &["app", "client", "demo", "preflight", "spool", "translate"]),
    (11, &["cli"]),
];

/// Outside crates with one home: a second would tie a second room to it.
const HOMES: &[(&str, &str)] = &[
    ("prometheus", "metrics"),
    ("governor", "gate/rate.rs"),
    ("simd_json", "dialect/json"),
    ("redis", "redis"),
    ("crc16", "redis"),
    ("flate2", "body"),
    ("crc32fast", "store"),
    ("fs4", "store/files/real.rs"),
    ("roaring", "store"),
    ("hyper_rustls", "forward"),
    ("notify", "app/watch.rs"),
    ("hmac", "sink"),
    ("granit_parser", "config/tree"),
    ("toml_parser", "config/tree"),
    ("toml", "config/tree"),
    ("ulid", "event"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("getrandom", "cli"),
    ("rpassword", "cli"),
    ("x509_cert", "listen/tls"),
    ("ppp", "listen/source.rs"),
    ("webpki_roots", "client"),
    ("crossterm", "cli"),
    ("unicode_width", "cli"),
    ("sd_notify", "systemd"),
];

/// Every file below `src`, with its text.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// The code of a file without its unit tests, which may use any room.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap()
        .split("#[cfg(test)]\npub(crate) mod tests {")
        .next()
        .unwrap()
}

/// Whether a line of code names a path in this crate, and not in one whose name ends as this one's (`sd_notify`).
fn names(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let begins = |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    line.match_indices(&path).any(|(at, _)| begins(at))
}

fn is_test_file(file: &str) -> bool {
    ["tests", "doubles", "samples"].iter().any(|word| file.split(['/', '.']).any(|part| part == *word))
}

/// Names after `path::` in a text, e.g. the rooms after `crate::`, braces opened.
fn named_after(text: &str, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in text.split(path).skip(1) {
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, character) in list.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' => begins = true,
                        c if begins && depth == 0 && !c.is_whitespace() => {
                            names.push(word(&list[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
            None => names.push(word(rest)),
        }
    }
    names
}

#[test]
fn rooms_import_lower_rooms_only() {
    let height: BTreeMap<&str, u8> =
        HEIGHTS.iter().flat_map(|(height, rooms)| rooms.iter().map(|room| (*room, *height))).collect();
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let own = room(&file);
        if matches!(own, "lib" | "main") || is_test_file(&file) {
            continue;
        }
        let Some(own_height) = height.get(own) else {
            faults.push(format!("src/{file}: the room {own} has no height: give it one in tests/tidy.rs"));
            continue;
        };
        let code: String = without_tests(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        for imported in named_after(&code, "crate::") {
            if let Some(theirs) = height.get(imported.as_str())
                && imported != own
                && theirs >= own_height
            {
                faults.push(format!(
                    "src/{file}: {own} [{own_height}] imports {imported} [{theirs}]: take a trait of your own instead, or move the code"
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_outside_crate_has_one_home() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (name, home) in HOMES.iter().copied() {
            let uses = without_tests(&text)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| names(line, name) && !line.contains(&format!("crate::{name}::")));
            let at_home = file.starts_with(home) || file == format!("{home}.rs");
            if uses && !at_home && !is_test_file(&file) {
                faults.push(format!("src/{file}: {name} lives in src/{home}: use what that room offers"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_log_calls_the_file_system_in_one_file() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let elsewhere = room(&file) == "store" && file != "store/files/real.rs" && !is_test_file(&file);
        let code = without_tests(&text);
        let calls = |name: &String| ["fs", "os"].contains(&name.as_str());
        if elsewhere && (code.contains("rustix::") || named_after(code, "std::").iter().any(calls)) {
            faults.push(format!(
                "src/{file}: only src/store/files/real.rs calls the file system: elsewhere the tests could not make it fail. Use files::Files"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_dialects_decoder_is_measured() {
    let bench =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name)).unwrap();
    let (bodies, counts) = (bench("dialects.rs"), bench("instructions.rs"));
    for dialect in surgegate::dialect::DIALECTS {
        let name = dialect.name();
        assert!(
            bodies.contains(&format!("(\"{name}\",")) || bodies.contains(&format!("        \"{name}\",")),
            "benches/dialects.rs: a usual body of {name}"
        );
        assert!(counts.contains(&format!("#[bench::{name}(")), "benches/instructions.rs: a line for {name}");
    }
}

#[test]
fn every_file_begins_with_what_lives_in_it() {
    let bare: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file).collect();
    assert!(bare.is_empty(), "begin with `//! what lives here, who calls it`: {bare:?}");
}
