//! The book in docs/: built without a warning, every page in it, and every link leads somewhere, those of the README too.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_book_is_built_without_a_warning() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mdbook = target.join("tools/bin/mdbook");
    assert!(mdbook.exists(), "no mdbook at {}: run scripts/install-tools.sh", mdbook.display());
    let folder = tempfile::TempDir::new().unwrap();
    let output = Command::new(mdbook)
        .arg("build")
        .arg(root().join("docs"))
        .arg("--dest-dir")
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let page = std::fs::read_to_string(folder.path().join("runbooks/SurgegateDown.html")).unwrap();
    assert!(page.contains("Mitigation"));
}

/// Every page below docs/, and the README.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    walk(&root().join("docs"), &mut found);
    found
}

/// A page without its blocks of code and what stands between backquotes.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

/// Where its links lead, also those that are images.
fn links(text: &str) -> Vec<String> {
    prose(text).split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// What headings can be linked by.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let heading = line.trim_start_matches('#');
        if is_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn every_link_leads_somewhere_and_none_out_of_the_book() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            count += 1;
            let (path, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let Ok(target) = target.canonicalize() else {
                faults.push(format!("{name}: {link} is not there"));
                continue;
            };
            if name.starts_with("docs/") && !target.starts_with(root().join("docs").canonicalize().unwrap()) {
                faults.push(format!("{name}: {link} leads out of the book: name the file in place of linking it"));
            }
            let linked =
                if target.is_file() { std::fs::read_to_string(&target).unwrap_or_default() } else { String::new() };
            if anchor.is_some_and(|anchor| !anchors(&linked).contains(anchor)) {
                faults.push(format!("{name}: {link}: no such heading"));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Titles of the pages of a folder, by name; not that of its README, which stands above them.
fn titles(folder: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = pages()
        .iter()
        .filter_map(|page| {
            let name = page.strip_prefix(root().join("docs").join(folder)).ok()?.to_str()?.to_owned();
            let text = std::fs::read_to_string(page).unwrap();
            let title = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(&name).to_owned();
            (name != "README.md").then_some((name, title))
        })
        .collect();
    found.sort();
    found
}

/// A list of contents in which each folder that has a README is followed by its pages.
fn with_folders(summary: &str) -> String {
    let mut written = String::new();
    let mut folder = None::<String>;
    for line in summary.lines() {
        let of_folder =
            folder.as_ref().is_some_and(|folder| line.starts_with("  - [") && line.contains(&format!("]({folder}/")));
        if of_folder {
            continue;
        }
        written.push_str(line);
        written.push('\n');
        folder = line.split_once("](").and_then(|(_, link)| Some(link.strip_suffix("/README.md)")?.to_owned()));
        for (name, title) in folder.iter().flat_map(|folder| titles(folder)) {
            let folder = folder.as_deref().unwrap_or_default();
            writeln!(written, "  - [{title}]({folder}/{name})").unwrap();
        }
    }
    written
}

#[test]
fn every_page_is_in_the_book() {
    const AGAIN: &str = "SURGEGATE_REGENERATE=1 cargo test --test book";
    let docs = root().join("docs");
    let is_current = |name: &str, text: &str| {
        let path = docs.join(name);
        if std::env::var_os("SURGEGATE_REGENERATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == text, "docs/{name} is old: {AGAIN}");
    };
    let summary = with_folders(&std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    is_current("SUMMARY.md", &summary);
    let decisions = std::fs::read_to_string(docs.join("decisions/README.md")).unwrap();
    let mut list = decisions.lines().take_while(|line| !line.starts_with("* ")).collect::<Vec<_>>().join("\n") + "\n";
    for (name, title) in titles("decisions") {
        writeln!(list, "* [{title}]({name})").unwrap();
    }
    is_current("decisions/README.md", &list);
    let listed: BTreeSet<String> = links(&summary).into_iter().collect();
    let missing: Vec<String> = pages()
        .iter()
        .filter_map(|page| Some(page.strip_prefix(&docs).ok()?.display().to_string()))
        .filter(|page| page != "SUMMARY.md" && !listed.contains(page))
        .collect();
    assert!(missing.is_empty(), "add a line for each to docs/SUMMARY.md where it belongs: {missing:?}");
}
