//! Where a statement of SQL ends.

/// Whether `text` is empty or ends with a semicolon that is not in a text, a name or a comment.
pub(super) fn is_complete(text: &str) -> bool {
    let mut chars = text.chars().peekable();
    let mut complete = true;
    while let Some(c) = chars.next() {
        match c {
            ';' => complete = true,
            c if c.is_whitespace() => {}
            '\'' | '"' | '`' | '[' => {
                let end = if c == '[' { ']' } else { c };
                if !chars.any(|c| c == end) {
                    return false;
                }
                complete = false;
            }
            '-' if chars.peek() == Some(&'-') => {
                if !chars.any(|c| c == '\n') {
                    return complete;
                }
            }
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                let mut last = ' ';
                if !chars.any(|c| std::mem::replace(&mut last, c) == '*' && c == '/') {
                    return false;
                }
            }
            _ => complete = false,
        }
    }
    complete
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn ends_of_statements() {
        for complete in [
            "",
            "  ",
            "select 1;",
            "select ';' ; -- x",
            "-- x",
            "/* ; */",
            "select 'it''s';\n",
            "select [a;b] ;",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in
            ["select 1", "select ';", "select 1; x", "/* ;", "select \"a;", "select 1 -- ;", "select 'a;\n"]
        {
            assert!(!is_complete(open), "{open}");
        }
    }
}
