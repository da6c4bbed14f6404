//! Whether Redis lets us in and answers. Nothing is written.

use super::Book;
use crate::config::Config;

const KEY: &str = "redis.url";

pub(super) async fn check(config: &Config, book: &mut Book<'_>) {
    let Some(config) = &config.redis else { return };
    if let Err(why) = crate::redis::reach(config).await {
        let message = format!("{}: cannot be used: {why}", config.servers);
        let hint = "replicas go on without it, each alone: look at the URL, the user's rights, DNS and firewall";
        book.passing("redis_unreachable", KEY, &message, hint);
    }
}
