//! Pieces of HTML. Whatever comes from outside goes through [`escaped`]; nothing here writes a style or a script.

use std::fmt::Write;

use crate::admin::facts::Level;

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

/// A level's shape: it must be seen without colours.
pub(super) fn shape(level: Level) -> String {
    let sign = match level {
        Level::Good => "●",
        Level::Note => "○",
        Level::Warn => "▲",
        Level::Bad => "■",
    };
    format!("<i class=\"{}\" aria-hidden=\"true\">{sign}</i>", level.name())
}

/// A cell without anything in it.
pub(super) const NONE: &str = "–";

/// A column of a table.
#[derive(Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    class: &'static str,
}

impl Column {
    pub(super) const fn text(head: &'static str) -> Self {
        Self { head, class: "" }
    }

    pub(super) const fn number(head: &'static str) -> Self {
        Self { head, class: " class=\"n\"" }
    }
}

/// A table with a row for each key; cells are HTML. On a narrow screen each cell has its column's head before it.
pub(super) fn table(out: &mut String, columns: &[Column], rows: &[(String, Vec<String>)]) {
    out.push_str("<table><thead><tr>");
    for Column { head, class } in columns {
        // Writing to a string cannot fail.
        let _ = write!(out, "<th scope=\"col\"{class}>{head}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for (key, cells) in rows {
        let _ = write!(out, "<tr data-key=\"{}\">", escaped(key));
        for (at, (Column { head, class }, cell)) in columns.iter().zip(cells).enumerate() {
            let _ = match at {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                // A narrow screen leaves out what there is not.
                _ if cell == NONE => write!(
                    out,
                    "<td class=\"e{}\" data-label=\"{head}\">{cell}</td>",
                    if class.is_empty() { "" } else { " n" }
                ),
                _ => write!(out, "<td{class} data-label=\"{head}\">{cell}</td>"),
            };
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
}

/// Names and values, one under the other; values are HTML.
pub(super) fn pairs(out: &mut String, rows: &[(&str, String)]) {
    out.push_str("<dl>");
    for (name, value) in rows {
        let _ = write!(out, "<div data-key=\"{}\"><dt>{}</dt><dd>{value}</dd></div>", escaped(name), escaped(name));
    }
    out.push_str("</dl>");
}

/// A part of the page, with its head.
pub(super) fn section(id: &str, title: &str, body: &str) -> String {
    format!("<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{title}</h2>{body}</section>")
}

/// A button that only a script can do something with: what it does stands in its data.
pub(super) fn button(act: &str, label: &str, about: &str, data: &[(&str, &str)]) -> String {
    let data = data.iter().fold(String::new(), |mut all, (name, value)| {
        let _ = write!(all, " data-{name}=\"{}\"", escaped(value));
        all
    });
    format!(
        "<button type=\"button\" class=\"js\" data-act=\"{act}\"{data} aria-label=\"{}\">{label}</button>",
        escaped(about)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_is_shown_and_not_obeyed() {
        assert_eq!(escaped("<b a='1'>&\"x\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;x&quot;");
        assert!(button("drop", "Drop", "\"><script>", &[("query", "\"x")]).contains("data-query=\"&quot;x\""));
    }
}
