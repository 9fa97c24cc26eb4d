//! A Rust file taken apart into code, comments and literals, so that a word in a comment is not
//! taken for code and a sample in a string is taken for neither.
//!
//! The three texts have the lines and columns of the file; what belongs to another is a space.

/// The parts of one Rust file.
pub(crate) struct RustText {
    /// Code without comments; of a literal only its quotes are left.
    pub(crate) code: String,
    /// The comments with their slashes, documentation too, line by line.
    pub(crate) comments: Vec<String>,
    /// What stands between the quotes of strings and characters, line by line.
    pub(crate) literals: Vec<String>,
    test_lines: Vec<(usize, usize)>,
}

/// A function: the line of its `fn` and how many lines it takes up to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Code,
    Comment,
    Literal,
}

impl RustText {
    pub(crate) fn read(text: &str) -> RustText {
        let chars: Vec<char> = text.chars().collect();
        let parts = parts_of(&chars);
        let of = |wanted: Part| {
            let pick = |(&c, &part): (&char, &Part)| match c {
                '\n' => '\n',
                c if part == wanted => c,
                _ => ' ',
            };
            chars.iter().zip(&parts).map(pick).collect::<String>()
        };
        let code = of(Part::Code);
        let lines = |(at, end)| (line_of(&code, at), line_of(&code, end));
        let test_lines = test_items(&code).into_iter().map(lines).collect();
        let lines_of = |part| of(part).lines().map(str::to_owned).collect();
        RustText {
            code,
            comments: lines_of(Part::Comment),
            literals: lines_of(Part::Literal),
            test_lines,
        }
    }

    /// Whether the line stands in a `#[cfg(test)]` item.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.iter().any(|&(first, last)| (first..=last).contains(&line))
    }

    /// The names of the modules for tests alone that are files of their own.
    pub(crate) fn test_modules(&self) -> Vec<&str> {
        let declared = |(at, end): (usize, usize)| {
            let (_, name) = self.code[at..end].rsplit_once("mod ")?;
            name.trim().chars().all(is_word).then(|| name.trim())
        };
        test_items(&self.code).into_iter().filter_map(declared).collect()
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        for at in words(&self.code, "fn") {
            let rest = &self.code[at + 2..];
            let name: String =
                rest.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
            let Some(open) = (!name.is_empty()).then(|| body_start(bytes, at)).flatten() else {
                continue;
            };
            let (line, last) =
                (line_of(&self.code, at), line_of(&self.code, close_of(bytes, open)));
            found.push(Function { name, line, lines: last - line + 1 });
        }
        found
    }
}

/// The places where `word` stands as a whole word.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

/// The number of the line that holds the byte at `at`.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count() + 1
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn parts_of(chars: &[char]) -> Vec<Part> {
    let mut parts = vec![Part::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (part, from, to, next) = token(chars, at);
        let end = to.min(chars.len());
        parts[from.min(end)..end].fill(part);
        at = next.max(at + 1);
    }
    parts
}

/// What begins at `at`: its part, the range that part fills, and where reading goes on.
fn token(chars: &[char], at: usize) -> (Part, usize, usize, usize) {
    let peek = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    let glued = at > 0 && is_word(chars[at - 1]);
    match (chars[at], peek(1)) {
        ('/', '/') => {
            let end = find(chars, at, '\n');
            (Part::Comment, at, end, end)
        }
        ('/', '*') => {
            let end = block_comment_end(chars, at);
            (Part::Comment, at, end, end)
        }
        ('r', '"' | '#') if !glued => raw_string(chars, at),
        ('b' | 'c', 'r') if !glued => raw_string(chars, at + 1),
        ('"', _) => {
            let end = quoted_end(chars, at, '"');
            (Part::Literal, at + 1, end, end + 1)
        }
        ('\'', '\\') => {
            let end = quoted_end(chars, at, '\'');
            (Part::Literal, at + 1, end, end + 1)
        }
        ('\'', _) if peek(2) == '\'' => (Part::Literal, at + 1, at + 2, at + 3),
        _ => (Part::Code, at, at + 1, at + 1),
    }
}

/// A raw string from its `r`; a raw identifier and an `r` before anything else stay code.
fn raw_string(chars: &[char], at: usize) -> (Part, usize, usize, usize) {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return (Part::Code, at, at + 1, at + 1);
    }
    let closes = |quote: usize| {
        chars[quote] == '"'
            && chars.get(quote + 1..quote + 1 + hashes).is_some_and(|h| h.iter().all(|&c| c == '#'))
    };
    let end = (open + 1..chars.len()).find(|&quote| closes(quote)).unwrap_or(chars.len());
    (Part::Literal, open + 1, end, end + 1 + hashes)
}

fn quoted_end(chars: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at
}

fn block_comment_end(chars: &[char], open: usize) -> usize {
    let (mut depth, mut at) = (0_usize, open);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn find(chars: &[char], from: usize, wanted: char) -> usize {
    (from..chars.len()).find(|&at| chars[at] == wanted).unwrap_or(chars.len())
}

/// The opening brace of the function whose `fn` is at `at`; `None` for one without a body.
fn body_start(code: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, byte) in code[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at + offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`, or the end of the text.
fn close_of(code: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return open + offset,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Where each item for tests alone begins and ends.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let item = |(at, _): (usize, &str)| {
        let bytes = code.as_bytes();
        let end = match body_start(bytes, at) {
            Some(open) => close_of(bytes, open),
            None => at + code[at..].find(';').unwrap_or(0),
        };
        (at, end)
    };
    let marks = ["#[cfg(test)]", "#[cfg(all(test"];
    marks.iter().flat_map(|mark| code.match_indices(mark)).map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = RustText::read("let a = \"unsafe // x\"; // unsafe\n/* fn /* b */ */ let c;");
        assert!(!text.code.contains("unsafe"));
        assert!(text.literals[0].contains("unsafe // x"));
        assert_eq!("// unsafe", text.comments[0].trim());
        assert_eq!("let c;", text.code.lines().nth(1).unwrap().trim());
    }

    #[test]
    fn raw_strings_escapes_and_lifetimes_are_told_apart() {
        let text =
            RustText::read("f::<'a>(r#\"x\"y\"#, br\"\\\", '\\'', '\"', b'\"', \"\\\"\", r#fn)");
        assert_eq!("f::<'a>(r#\"   \"#, br\" \", '  ', ' ', b' ', \"  \", r#fn)", text.code);
    }

    #[test]
    fn columns_and_lines_stay_where_they_were() {
        let source = "//! Doc.\nfn f() {\n    g(\"é\");\n}\n";
        let text = RustText::read(source);
        for part in
            [&text.code.lines().map(str::to_owned).collect(), &text.comments, &text.literals]
        {
            let widths: Vec<usize> = part.iter().map(|line| line.chars().count()).collect();
            assert_eq!(source.lines().map(|l| l.chars().count()).collect::<Vec<_>>(), widths);
        }
    }

    #[test]
    fn a_function_reaches_to_its_closing_brace() {
        let source = "trait T {\n    fn none(&self, a: [u8; 3]);\n}\nfn one(f: fn(u8))\n\
                      where\n    A: B,\n{\n\
                      \x20   if x { y(\"}\") }\n    // }\n}\n";
        let one = Function { name: "one".into(), line: 4, lines: 7 };
        assert_eq!(vec![one], RustText::read(source).functions());
    }

    #[test]
    fn a_test_module_is_a_region() {
        let text =
            RustText::read("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n");
        let lines: Vec<usize> = (1..=6).filter(|&line| text.is_test_line(line)).collect();
        assert_eq!(vec![2, 3, 4, 5], lines);
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_is_its_declaration() {
        let text = RustText::read("#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert!(text.is_test_line(2));
        assert!(!text.is_test_line(3));
        assert_eq!(vec!["tests"], text.test_modules());
        let inline = RustText::read("#[cfg(test)]\nmod tests { mod a; }\nmod b;\n");
        assert_eq!(Vec::<&str>::new(), inline.test_modules());
    }

    #[test]
    fn a_word_is_whole() {
        assert_eq!(vec![12], words("unsafe_code unsafe", "unsafe").collect::<Vec<_>>());
    }
}
