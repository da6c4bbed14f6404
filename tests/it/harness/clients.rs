//! Published clients of vendors, which `scripts/install-tools.sh` installs; each is driven by `tests/clients/NAME.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the script prints; it must end well.
pub fn run_client(name: &str, arguments: &[&str]) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| here.join("target"), PathBuf::from);
    let python = target.join("tools/clients/bin/python");
    assert!(python.exists(), "no published clients at {}: run scripts/install-tools.sh", python.display());
    let script = here.join("tests/clients").join(name).with_extension("py");
    let ended = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}{}", text(&ended.stdout), text(&ended.stderr));
    text(&ended.stdout)
}
