//! `docs/configuration.md`, generated from the table; the tests hold the file to it.

use std::fmt::Write;

use super::keys::{self, Fallback, ROWS, Row};
use super::tell;

const HEAD: &str = "\
<!-- Generated from src/config/keys.rs: SURGEGATE_REGENERATE=1 cargo test --lib config::tests::generated -->
# Configuration

`surgegate` reads `./surgegate.yaml`, else `/etc/surgegate/surgegate.yaml`, else what `--config FILE` names. The ending of the
name tells the format: `.toml` is TOML, `.json` is JSON, anything else YAML. Only `integrations` and `upstreams` must be written.

| to | do |
| --- | --- |
| begin | `surgegate config init --output surgegate.yaml` |
| find every error at once | `surgegate validate` |
| see what is meant, and why | `surgegate config show --origin` |
| have an editor check and complete | `surgegate config schema > surgegate.schema.json` |

**Several files:** `--config base.yaml --config production.toml` lays each over those before it. Mappings are joined key by key;
lists and single values are replaced whole.

**Precedence:** default, file, environment, flag; the last that has a value wins. `SURGEGATE__SPOOL__DIRECTORY=/data` replaces
`spool.directory`; each single value and each list of single values (`one,two`) that stands in no list itself has such a name, and
a variable that begins so and names none is an error. `--set spool.directory=/data` sets it above everything;
a list or a section takes YAML: `--set 'log={ level: debug }'`.

**Variables in values:** `${VAR}` (an error when it is not set), `${VAR:-default}`, `${VAR:?message}`; `$$` is a dollar sign.
They work in any value, in TOML and JSON inside the quotes, and never become keys, lists or comments.

**Values:** durations are whole numbers with a unit: 500ms, 5s, 2m, 24h, 30d. Sizes are bytes, or whole numbers with a unit of 1024:
30720, 16KiB, 4MiB, 10GiB, 1TiB. Relative paths begin at the working directory. Unknown keys, wrong types and impossible
combinations are errors. Anchors, aliases, tags and second documents of YAML are refused, a key that stands twice in every format.

**Secrets** (`key`, `credential`, what a URL carries) are masked in messages and in `config show`; best they come from files or
variables.
";

/// The reference for users.
pub(super) fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (name, row) in keys::of_section("") {
        // A string takes any text.
        let _ = write!(
            text,
            "\n## {name}\n\n{}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n",
            row.about
        );
        let below = |row: &&Row| row.path.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '[']));
        for row in ROWS.iter().filter(below) {
            let kind = &row.shape;
            let kind =
                if row.is_opened() && tell::shape(kind).is_empty() { "section".to_owned() } else { tell::shape(kind) };
            let default = match row.default {
                Fallback::Required => "**required**".to_owned(),
                Fallback::Absent => String::new(),
                Fallback::Text(text) => format!("`{text}`"),
            };
            let _ = writeln!(text, "| `{}` | {kind} | {default} | {} |", row.path, row.about.replace('|', "\\|"));
        }
    }
    text
}
