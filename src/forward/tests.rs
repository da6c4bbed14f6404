//! The forwarder against a log in memory and an upstream made of a closure, on the paused clock.

mod awaited;
mod circuit;
mod dead_letters;
mod order;
mod pacing;
mod remotes;
mod world;
