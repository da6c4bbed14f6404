//! `surgegate keys`: keys for senders, and the hashes of those that are there. A key is never an argument: every user
//! of the machine sees the arguments of its processes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use clap::Subcommand;
use sha2::{Digest, Sha256};

use super::{FAILED, USAGE};

pub(super) const HELP: &str = "\
A sender puts its key into the URL it posts to; the configuration needs the key's SHA-256 alone (key_sha256), so that the
file holds no secret.

Examples:
  surgegate keys generate
  surgegate keys hash < payments.key";

const GENERATE_HELP: &str = "\
Each key is 40 lower-case hex characters from the machine's own source of randomness. It is shown this once: give it to
the sender, and paste the last line into the integration.

Examples:
  surgegate keys generate
  surgegate keys generate --count 2     one to use, one to change over to later";

const HASH_HELP: &str = "\
Reads one key from standard input, less its last line break, or asks for it on a terminal without showing it. Prints what
to write as key_sha256. An argument would be seen by every user of the machine.

Examples:
  surgegate keys hash < payments.key
  printf %s \"$PAYMENTS_KEY\" | surgegate keys hash
  surgegate keys hash                        asks for the key";

/// Bytes of randomness in a key (contracts 2.2).
const KEY_BYTES: usize = 20;
/// Largest key that the configuration takes.
const INPUT_BYTES_MAX: u64 = 64 << 10;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make new keys.
    #[command(after_long_help = GENERATE_HELP)]
    Generate {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
    },
    /// Print the SHA-256 of a key from standard input.
    #[command(after_long_help = HASH_HELP)]
    Hash {
        // Taken only to be refused, and never shown.
        #[arg(hide = true, num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
        given: Vec<std::ffi::OsString>,
    },
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.verb {
        Verb::Generate { count } => generate(*count),
        Verb::Hash { given } if given.is_empty() => hash(),
        Verb::Hash { .. } => {
            super::complain(
                "surgegate keys hash: a key is no argument: every user of this machine sees the arguments of its \
                 processes, and the shell keeps them\n  write it to standard input: surgegate keys hash < FILE; and make \
                 a new one if this one is in use",
            );
            ExitCode::from(USAGE)
        }
    }
}

/// A key, and what the configuration may hold in its place.
pub(super) struct NewKey {
    pub(super) key: String,
    pub(super) hash: String,
}

/// # Errors
/// This machine gives no randomness.
pub(super) fn new_key() -> Result<NewKey, getrandom::Error> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes)?;
    let key = hex(&bytes);
    let hash = hex(&Sha256::digest(key.as_bytes()));
    Ok(NewKey { key, hash })
}

fn generate(count: u16) -> ExitCode {
    let mut text = String::new();
    for index in 0..count {
        let NewKey { key, hash } = match new_key() {
            Ok(key) => key,
            Err(error) => {
                super::complain(&format!("surgegate keys generate: this machine gives no randomness: {error}"));
                return ExitCode::from(FAILED);
            }
        };
        let gap = if index == 0 { "" } else { "\n" };
        text +=
            &format!("{gap}key         {key}\nkey_sha256  {hash}\npaste       keys: [{{ key_sha256: \"{hash}\" }}]\n");
    }
    super::print(text.as_bytes())
}

fn hash() -> ExitCode {
    match read() {
        Ok(key) if key.is_empty() => {
            super::complain("surgegate keys hash: no key on standard input\n  surgegate keys hash < FILE");
            ExitCode::from(USAGE)
        }
        Ok(key) => super::print(format!("{}\n", hex(&Sha256::digest(key.as_bytes()))).as_bytes()),
        Err(error) => {
            super::complain(&format!("surgegate keys hash: the key cannot be read: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The key, less its last line break, as the configuration reads one from a file.
fn read() -> io::Result<String> {
    if io::stdin().is_terminal() {
        return rpassword::prompt_password("key: ");
    }
    let mut text = String::new();
    io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > INPUT_BYTES_MAX {
        return Err(io::Error::other("larger than 64KiB"));
    }
    let key = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(key.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
