//! `surgegate man`: the manual page, every verb in one.

use std::io;
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;

use super::FAILED;

pub(super) const HELP: &str = "\
Examples:
  surgegate man | man -l -
  surgegate man > /usr/local/share/man/man1/surgegate.1";

pub(super) fn run() -> ExitCode {
    match page() {
        Ok(page) => super::print(page.as_bytes()),
        Err(error) => {
            super::complain(&format!("surgegate man: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

fn page() -> io::Result<String> {
    let mut command = super::command();
    command.build();
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut page = text(page)? + &notes(&man)?;
    for verb in verbs(&command) {
        page += &section(verb)?;
    }
    let mut end = Vec::new();
    man.render_version_section(&mut end)?;
    Ok(page + &text(end)?)
}

/// Verbs that do something, those below others among them, in the order of the help.
fn verbs(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    below.flat_map(|verb| std::iter::once(verb).chain(verbs(verb))).collect()
}

/// One verb as a section: its own sections become parts of it.
fn section(verb: &Command) -> io::Result<String> {
    let man = Man::new(verb.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let parts = text(parts)? + &notes(&man)?;
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name()).to_uppercase();
    Ok(format!(".SH \"{name}\"\n{}", parts.replace(".SH ", ".SS ")))
}

/// What stands below the options, line by line as it is written: examples must not be filled.
fn notes(man: &Man) -> io::Result<String> {
    let mut notes = Vec::new();
    man.render_extra_section(&mut notes)?;
    let notes = text(notes)?;
    Ok(match notes.split_once(".SH EXTRA\n") {
        Some((before, lines)) => format!("{before}.SH NOTES\n.nf\n{lines}.fi\n"),
        None => notes,
    })
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(io::Error::other)
}
