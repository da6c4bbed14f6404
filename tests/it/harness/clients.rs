//! Published clients of vendors, which `scripts/install-tools.sh` installs; each is driven by `tests/clients/NAME.py`, or by
//! `NAME.cjs` where it is npm's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the script prints; it must end well.
pub fn run_client(name: &str, arguments: &[&str]) -> String {
    let python = tools().join("clients/bin/python");
    assert!(python.exists(), "no published clients at {}: run scripts/install-tools.sh", python.display());
    ended_well(Command::new(python).arg(script(name, "py")).args(arguments))
}

/// As [`run_client`], with these variables.
pub fn run_node_client(name: &str, arguments: &[&str], environment: &[(&str, String)]) -> String {
    let modules = tools().join("npm/node_modules");
    assert!(modules.exists(), "no published clients at {}: run scripts/install-tools.sh", modules.display());
    let mut node = Command::new("node");
    node.arg(script(name, "cjs")).args(arguments).env("NODE_PATH", modules);
    node.envs(environment.iter().map(|(name, value)| (name, value)));
    ended_well(&mut node)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `make install-tools` made.
pub fn tools() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here().join("target"), PathBuf::from).join("tools")
}

fn script(name: &str, ending: &str) -> PathBuf {
    here().join("tests/clients").join(name).with_extension(ending)
}

fn ended_well(command: &mut Command) -> String {
    let ended = command.output().expect("make install-tools");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", text(&ended.stdout), text(&ended.stderr));
    text(&ended.stdout)
}
