//! Pages of `docs/` as man pages: the Markdown that they use, in the language of troff.
//!
//! | Markdown | troff |
//! |---|---|
//! | `## heading`, `### heading` | `.SH`, `.SS` |
//! | a row of a table | a paragraph with the first cell as its tag |
//! | `- item` | a paragraph with a bullet |
//! | a fenced or indented block | lines as they are |
//! | code in backquotes | bold |
//! | a link | its text |

/// The body of a document, without its title.
pub(super) fn body(markdown: &str) -> String {
    let mut out = String::new();
    let mut paragraph = String::new();
    let mut lines = markdown.lines().peekable();
    let mut rows = 0;
    while let Some(line) = lines.next() {
        let is_row = line.starts_with('|');
        rows = if is_row { rows + 1 } else { 0 };
        if let Some(fence) = line.strip_prefix("```") {
            end(&mut paragraph, &mut out);
            let _language = fence;
            let code = lines.by_ref().take_while(|l| !l.starts_with("```"));
            literal(code, &mut out);
        } else if paragraph.is_empty() && line.starts_with("    ") {
            let mut code = vec![&line[4..]];
            while let Some(more) = lines.next_if(|l| l.starts_with("    ")) {
                code.push(&more[4..]);
            }
            literal(code.into_iter(), &mut out);
        } else if let Some(title) = line.strip_prefix("### ") {
            end(&mut paragraph, &mut out);
            out.push_str(&format!(".SS {}\n", inline(title)));
        } else if let Some(title) = line.strip_prefix("## ") {
            end(&mut paragraph, &mut out);
            out.push_str(&format!(".SH {}\n", inline(title).to_uppercase()));
        } else if line.starts_with("# ") || line.is_empty() {
            end(&mut paragraph, &mut out);
        } else if is_row {
            end(&mut paragraph, &mut out);
            // The head of the table and the line below it.
            if rows > 2 {
                row(line, &mut out);
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            end(&mut paragraph, &mut out);
            out.push_str(".IP \\(bu 2\n");
            text_line(&inline(item), &mut out);
            while let Some(more) = lines.next_if(|l| l.starts_with("  ")) {
                text_line(&inline(more.trim()), &mut out);
            }
        } else {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(line);
        }
    }
    end(&mut paragraph, &mut out);
    out
}

/// The rows of the tables of a document, cell by cell.
pub(super) fn rows(markdown: &str) -> Vec<Vec<&str>> {
    let rows = markdown.lines().filter(|line| line.starts_with('|'));
    let is_data = |cells: &Vec<&str>| !cells.iter().all(|c| c.starts_with("---"));
    rows.map(cells).filter(is_data).collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(str::trim).collect()
}

fn row(line: &str, out: &mut String) {
    let cells = cells(line);
    let (first, rest) = cells.split_first().expect("a row has cells");
    tagged(first, rest, out);
}

/// A paragraph with a tag.
pub(super) fn tagged(tag: &str, text: &[&str], out: &mut String) {
    out.push_str(".TP\n");
    text_line(&inline(if tag.is_empty() { "(the same)" } else { tag }), out);
    text_line(&inline(&text.join(": ")), out);
}

/// Lines as they are.
pub(super) fn literal<'a>(lines: impl Iterator<Item = &'a str>, out: &mut String) {
    out.push_str(".PP\n.RS 4\n.nf\n");
    for line in lines {
        text_line(&escape(line), out);
    }
    out.push_str(".fi\n.RE\n");
}

fn end(paragraph: &mut String, out: &mut String) {
    if !paragraph.is_empty() {
        out.push_str(".PP\n");
        text_line(&inline(paragraph), out);
        paragraph.clear();
    }
}

/// A line of text, which must not be taken for a request.
fn text_line(line: &str, out: &mut String) {
    if line.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    out.push_str(line);
    out.push('\n');
}

/// Text as it is.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn inline(text: &str) -> String {
    // Every other piece is in backquotes.
    let pieces = text.split('`').enumerate().map(|(n, piece)| {
        let escaped = escape(piece);
        if n % 2 == 1 { format!("\\fB{escaped}\\fR") } else { without_links(&escaped.replace("**", "")) }
    });
    pieces.collect()
}

/// The text of links in the place of the links. A link whose text is code is in several pieces:
/// its brackets go, too.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("](") {
        let before = &rest[..at];
        let opened = before.rfind('[');
        out.push_str(&before[..opened.unwrap_or(before.len())]);
        out.push_str(opened.map_or("", |o| &before[o + 1..]));
        rest = rest[at + 2..].split_once(')').map_or("", |(_, more)| more);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_troff() {
        let text = "# Title\n\nFirst `a-b` and\n[a link](x.md#y).\n\n## Part\n\n| key | what |\n|---|---|\n| `k` | does `x` |\n\n\
                    - one\n  more\n\n```yaml\n.a: \\b\n```\n\n    shown\n";
        let expected = ".PP\nFirst \\fBa\\-b\\fR and a link.\n.SH PART\n.TP\n\\fBk\\fR\ndoes \\fBx\\fR\n.IP \\(bu 2\none\nmore\n\
                        .PP\n.RS 4\n.nf\n\\&.a: \\eb\n.fi\n.RE\n.PP\n.RS 4\n.nf\nshown\n.fi\n.RE\n";
        assert_eq!(body(text), expected);
    }

    #[test]
    fn rows_have_cells() {
        let text = "| command | code | meaning |\n|---|---|---|\n| all | 0 | ok |\n| | 1 | an error |\n";
        assert_eq!(
            rows(text),
            [vec!["command", "code", "meaning"], vec!["all", "0", "ok"], vec!["", "1", "an error"]]
        );
    }
}
