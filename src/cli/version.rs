//! `surgegate version`: what this binary is. `build.rs` tells the compiler and the target; the commit is what
//! `SURGEGATE_COMMIT` said when it was built.

use std::process::ExitCode;

use serde_json::json;

pub(super) const HELP: &str = "\
The commit is known where the build was told: SURGEGATE_COMMIT=$(git rev-parse HEAD) cargo build --release.

Examples:
  surgegate version
  surgegate version --json | jq -r .version";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("SURGEGATE_COMMIT").filter(|commit| !commit.is_empty());
    let (rustc, target) = (env!("SURGEGATE_RUSTC"), env!("SURGEGATE_TARGET"));
    let features: Vec<&str> = env!("SURGEGATE_FEATURES").split_whitespace().collect();
    let text = if arguments.json {
        let whole = json!({
            "name": "surgegate", "version": version, "commit": commit, "rustc": rustc, "target": target,
            "features": features,
        });
        format!("{whole:#}\n")
    } else {
        let commit = commit.unwrap_or("not known");
        let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
        format!(
            "surgegate {version}\ncommit    {commit}\nrustc     {rustc}\ntarget    {target}\nfeatures  {features}\n"
        )
    };
    super::print(text.as_bytes())
}
