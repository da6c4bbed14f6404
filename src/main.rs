//! The binary: the allocator, and the command line.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Thousands of slow connections hold a few kilobytes each: in huge pages each would cost twice that. Best effort.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    surgegate::cli::run()
}
