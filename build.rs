//! Tells `surgegate version` what it was built by and for. Reads no network and no repository, and never fails.

use std::env;
use std::process::Command;

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let said = Command::new(rustc).arg("--version").output().ok();
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // `rustc 1.95.0 (abcdef 2026-04-14)`
    let version = said.trim().strip_prefix("rustc ").unwrap_or("not known");
    let target = env::var("TARGET").unwrap_or_else(|_| "not known".to_owned());
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(|name| name.to_lowercase().replace('_', "-")))
        .filter(|name| name != "default")
        .collect();
    features.sort();
    #[allow(clippy::print_stdout)] // How a build script speaks to cargo.
    for (name, value) in [("RUSTC", version), ("TARGET", &target), ("FEATURES", &features.join(" "))] {
        println!("cargo::rustc-env=SURGEGATE_{name}={value}");
    }
    #[allow(clippy::print_stdout)]
    {
        println!("cargo::rerun-if-changed=build.rs");
    }
}
