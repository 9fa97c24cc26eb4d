//! Lists for people: columns below their heads.

/// Rows below a head, each column as wide as it has to be. Names may hold what moves the cursor of
/// a terminal, so that such characters are shown escaped.
pub(super) fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| escape(&cell)));
    let lines: Vec<[String; N]> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let rows = vec![
            ["a".to_owned(), "bob".to_owned(), String::new()],
            ["north".to_owned(), "x\u{1b}[2J".to_owned(), "1".to_owned()],
        ];

        let text = table(["REALM", "USER", "N"], rows);

        let expected = "REALM  USER        N\na      bob\nnorth  x\\u{1b}[2J  1\n";
        assert_eq!(expected, text);
    }
}
