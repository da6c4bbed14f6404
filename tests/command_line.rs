//! The texts of the command line, as the real binary prints them: errors and small verbs in `tests/command_line/*.trycmd`,
//! the manual page in `tests/command_line/surgegate.1`, and every `--help` in `docs/command-line.md`, which is made of them.
//!
//! Changed a text? `TRYCMD=overwrite cargo test --test command_line` writes them anew; read the difference before
//! committing it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const UPDATE: &str = "TRYCMD=overwrite cargo test --test command_line";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn texts_are_as_written() {
    let cases = trycmd::TestCases::new();
    cases.insert_var("[VERSION]", env!("CARGO_PKG_VERSION")).unwrap();
    cases.case("tests/command_line/*.trycmd");
}

/// Every verb, those below others among them, as words: `["spool", "ls"]`.
fn verbs(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
    let below = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    below
        .flat_map(|verb| {
            let words = [before, &[verb.get_name().to_owned()]].concat();
            let rest = verbs(verb, &words);
            std::iter::once(words).chain(rest)
        })
        .collect()
}

fn all_verbs() -> Vec<Vec<String>> {
    [vec![vec![]], verbs(&surgegate::cli::command(), &[])].concat()
}

fn help(words: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_surgegate")).args(words).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}");
    assert!(output.stderr.is_empty(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compares with the file, or writes it where that was asked for.
fn is_as_written(path: &str, text: &str) {
    let whole: PathBuf = root().join(path);
    if std::env::var("TRYCMD").is_ok_and(|mode| mode == "overwrite") {
        std::fs::write(&whole, text).unwrap();
    }
    let written = std::fs::read_to_string(&whole).unwrap_or_default();
    let line = text.lines().zip(written.lines()).position(|(now, then)| now != then);
    let line = line.unwrap_or_else(|| text.lines().count().min(written.lines().count())) + 1;
    assert!(text == written, "{path} is not what the binary says, from line {line} on: {UPDATE}");
}

#[test]
fn the_manual_page_is_as_written() {
    let output = Command::new(env!("CARGO_BIN_EXE_surgegate")).arg("man").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let page = String::from_utf8(output.stdout).unwrap();
    is_as_written("tests/command_line/surgegate.1", &page.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn docs_command_line_holds_the_help_of_every_verb() {
    let mut page = format!(
        "# The command line\n\n\
         Every verb with its `--help`, as the binary prints it. Made by\n\
         `{UPDATE}`: change a text where it stands in the code, not here.\n\n"
    );
    for words in all_verbs() {
        let name = ["surgegate".to_owned()].into_iter().chain(words.iter().cloned()).collect::<Vec<_>>().join(" ");
        let level = "#".repeat(words.len().clamp(1, 2) + 1);
        write!(page, "{level} {name}\n\n```text\n{}\n```\n\n", help(&words).trim_end()).unwrap();
    }
    let page = format!("{}\n", page.trim_end());
    is_as_written("docs/command-line.md", &page);
}

#[test]
fn every_verb_has_an_example_in_its_help() {
    for words in all_verbs() {
        let text = help(&words);
        assert!(text.contains("\nExample"), "`surgegate {}` has no example in its help", words.join(" "));
        for line in text.lines() {
            assert!(line.chars().count() <= 140, "too long for a terminal: {line}");
        }
    }
}

#[test]
fn completions_and_the_manual_page_name_every_verb() {
    let said = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_surgegate")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let man = said(&["man"]);
    let shells = ["bash", "elvish", "fish", "powershell", "zsh"].map(|shell| (shell, said(&["completions", shell])));
    for words in verbs(&surgegate::cli::command(), &[]) {
        let section = format!(".SH \"SURGEGATE {}\"", words.join(" ").to_uppercase());
        assert!(man.contains(&section), "{section} is not in the manual page");
        for (shell, text) in &shells {
            assert!(text.contains(words.last().unwrap()), "{words:?} is not in the completions for {shell}");
        }
    }
}
