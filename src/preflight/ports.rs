//! Whether each listener can have its address, and else who has it.

use std::io;

use super::Book;
use super::spool::Spool;
use crate::config::Config;
use crate::listen::{self, Refused};

pub(super) fn check(config: &Config, spool: &Spool, book: &mut Book<'_>) {
    let doors = [("ingest", config.ingest.address), ("observe", config.observe), ("admin", config.admin.address)];
    for (door, address) in doors {
        // It never listens: no connection comes in.
        let Err(source) = listen::bind(address) else { continue };
        let refused = Refused { door, address, source };
        let key = format!("listen.{door}.address");
        if refused.source.kind() != io::ErrorKind::AddrInUse {
            book.error("address", &key, &format!("{address}: {}", refused.reason()), refused.hint());
            continue;
        }
        match (refused.holder(), spool.owner) {
            // The proxy that runs on this spool: a start would take its place, or a reload go on there.
            (Some(holder), Some(owner)) if holder.pid == owner => {}
            (None, Some(_)) => {}
            _ => book.error("address_in_use", &key, &format!("{address}: {}", refused.reason()), refused.hint()),
        }
    }
}
