//! The tutorials, and the README's way to a first alert, typed as they stand there: their files are written, their lines go
//! through one shell, on ports and in a folder of the test's own.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A block of code: its language and its lines.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = page.split("\n```").collect();
    parts.iter().skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Types a tutorial, and gives what its upstream printed.
fn tutorial(name: &str) -> String {
    typed(&read(&format!("docs/tutorials/{name}")), "events.jsonl")
}

/// Writes the files of a page, types its lines, and gives what stands in that file in the end.
fn typed(page: &str, printed: &str) -> String {
    let folder = TempDir::new().unwrap();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports =
        ["8080", "9464", "9465", "9093"].map(|port| (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", free())));
    let moved = |text: &str| ports.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    // Ends what it began, also when it fails. A wait that never ends is bounded from outside.
    let mut script = "set -eo pipefail\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\nset -m\n".to_owned();
    let mut files = 0;
    for (language, text) in blocks(page) {
        match language {
            "yaml" => {
                let Some(name) = text.lines().next().and_then(|line| line.strip_prefix("# ")) else { continue };
                let mut text = moved(text);
                if name == "surgegate.yaml" {
                    text += &format!(
                        "\nlisten:\n  ingest: {{ address: '{}' }}\n  observe: {{ address: '{}' }}\n  admin: {{ address: '{}' }}\n",
                        ports[0].1, ports[1].1, ports[2].1
                    );
                }
                std::fs::write(folder.path().join(name), text).unwrap();
                files += 1;
            }
            // The binary is there.
            "sh" if text.contains("cargo build") => {}
            "sh" => {
                script += &moved(text).replace("\nalertmanager --", "\nprometheus-alertmanager --");
                script += "\n";
            }
            _ => {}
        }
    }
    assert!(files > 0 && script.contains("surgegate"), "it has nothing to type");
    let path = Path::new(env!("CARGO_BIN_EXE_surgegate")).parent().unwrap();
    let mut shell = Command::new("timeout");
    shell.args(["100", "bash", "-c", &script]).current_dir(folder.path());
    shell.env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
    shell.env("SURGEGATE_ADMIN", format!("http://{}", ports[2].1));
    let output = folder.path().join("said");
    let file = std::fs::File::create(&output).unwrap();
    shell.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let status = shell.status().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    assert!(status.success(), "{status}\n{}\n--- log\n{}", read("said"), read("surgegate.log"));
    read(printed)
}

#[test]
fn first_steps_with_curl() {
    assert_eq!(tutorial("curl.md").lines().count(), 2);
}

#[test]
fn alertmanager() {
    let events = tutorial("alertmanager.md");
    assert!(
        events.lines().all(|line| line.contains(r#""dialect":"alertmanager""#)) && events.lines().count() == 2,
        "{events}"
    );
}

#[test]
fn grafana() {
    let events = tutorial("grafana.md");
    assert!(events.contains(r#""dialect":"grafana""#) && events.lines().count() == 1, "{events}");
}

#[test]
fn a_script() {
    assert_eq!(tutorial("nagios.md").lines().count(), 2);
}

#[test]
fn the_readmes_way_to_a_first_alert() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## Run it").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    assert!(section.contains("cargo build"), "it begins with the binary");
    let incidents = typed(section, "incidents.jsonl");
    assert!(incidents.contains(r#""dialect":"alertmanager""#) && incidents.lines().count() == 1, "{incidents}");
}
