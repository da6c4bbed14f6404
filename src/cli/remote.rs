//! What the verbs that speak to a running process share: the flags that say which, and how their end is said.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::StatusCode;

use super::output::{Out, printable};
use super::{FAILED, UNREACHED, USAGE};
use crate::client::{Base, Client, Error, Tls, Token};

/// Where the admin listener stands unless the configuration moves it.
const USUAL: &str = "http://127.0.0.1:9465";

/// Which process, and who asks.
#[derive(clap::Args)]
#[command(next_help_heading = "Which process")]
pub(super) struct Admin {
    /// Its admin listener (`listen.admin.address`), by http or https.
    #[arg(long, value_name = "URL", env = "SURGEGATE_ADMIN", default_value = USUAL, global = true)]
    admin: String,
    /// File with the token that writes need (`listen.admin.token_file`).
    #[arg(long, value_name = "FILE", env = "SURGEGATE_ADMIN_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) to trust for https, in place of the public ones.
    #[arg(long, value_name = "FILE", env = "SURGEGATE_ADMIN_CA_FILE", global = true)]
    ca_file: Option<PathBuf>,
}

/// Why a verb did not do it.
#[derive(Debug)]
pub(super) enum Failure {
    Client(Error),
    /// What is said, what to do next, and the exit code.
    Text(String, String, u8),
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The code that a verb ends with.
pub(super) type Ended = Result<u8, Failure>;

/// Does what a verb does, with a client and standard output, and says how it ended.
pub(super) fn run(verb: &str, admin: &Admin, work: impl AsyncFnOnce(&Client, Out) -> Ended) -> ExitCode {
    let client = match admin.client() {
        Ok(client) => client,
        Err(error) => return ended(verb, admin, Err(Failure::Client(error))),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(verb, admin, Err(Failure::Output(error))),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = runtime.block_on(work(&client, &mut out));
    let flushed = out.flush().map_err(Failure::Output);
    // A look-up of a name may still be under way.
    runtime.shutdown_background();
    ended(verb, admin, done.and_then(|code| flushed.map(|()| code)))
}

impl Admin {
    fn client(&self) -> Result<Client, Error> {
        let base = Base::parse(if self.admin.is_empty() { USUAL } else { &self.admin })?;
        let token = named(self.token_file.as_deref()).map(Token::read).transpose()?;
        let tls = named(self.ca_file.as_deref()).map(Tls::trusting).transpose()?.unwrap_or_default();
        Ok(Client::new(base, token, tls))
    }
}

/// A variable that is set to nothing names no file.
fn named(file: Option<&Path>) -> Option<&Path> {
    file.filter(|file| !file.as_os_str().is_empty())
}

fn ended(verb: &str, admin: &Admin, ended: Ended) -> ExitCode {
    let (said, next, code) = match ended {
        Ok(code) => return ExitCode::from(code),
        // `| head` has read enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) => (error.to_string(), String::new(), FAILED),
        Err(Failure::Text(said, next, code)) => (said, next, code),
        Err(Failure::Client(error)) => {
            let code = match error {
                Error::Usage(_) => USAGE,
                Error::Unreachable { .. } => UNREACHED,
                Error::Refused { .. } | Error::Stranger(_) | Error::Broken(_) => FAILED,
            };
            (error.to_string(), next_step(&error, named(admin.token_file.as_deref())), code)
        }
    };
    say(&format!("surgegate {verb}: {}", printable(&said)));
    if !next.is_empty() {
        say(&format!("  {next}"));
    }
    ExitCode::from(code)
}

/// What to do about it, where the answer does not say so itself.
fn next_step(error: &Error, token_file: Option<&Path>) -> String {
    match (error, token_file) {
        (Error::Unreachable { .. }, _) => {
            "does Surgegate run there? --admin URL or SURGEGATE_ADMIN names another listener".to_owned()
        }
        (Error::Refused { status: StatusCode::UNAUTHORIZED, .. }, None) => {
            "name the file of `listen.admin.token_file` with --token-file or SURGEGATE_ADMIN_TOKEN_FILE".to_owned()
        }
        (Error::Refused { status: StatusCode::UNAUTHORIZED, .. }, Some(file)) => {
            format!("the token in {} is not the one that the process was started with", file.display())
        }
        (Error::Refused { status: StatusCode::FORBIDDEN, .. }, _) => {
            "on its own machine, ask it as http://127.0.0.1:PORT, or by [::1] or localhost".to_owned()
        }
        (Error::Refused { status: StatusCode::METHOD_NOT_ALLOWED, .. }, _) => {
            "the process may be of an older version than this command".to_owned()
        }
        _ => String::new(),
    }
}

/// An error at a path that every process of this version has.
pub(super) fn older(error: Error) -> Failure {
    match error {
        Error::Refused { status: StatusCode::NOT_FOUND, message } => {
            let next = "the process may be of an older version than this command: `surgegate top` tells its own";
            Failure::Text(message, next.to_owned(), FAILED)
        }
        error => Failure::Client(error),
    }
}

/// A line to standard error, whether or not anybody still reads it.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
