//! For tests: compares the tables of `docs/` with what the code says.

use std::path::Path;

fn page(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Fails unless `docs/en/PAGE` has exactly these rows, each a word and its other cells, in one table; and unless
/// `docs/zh/PAGE` has a row for each word.
pub(crate) fn assert_table(file: &str, rows: impl IntoIterator<Item = (String, String)>) {
    let rows: Vec<(String, String)> = rows.into_iter().collect();
    let expected: String = rows.iter().map(|(word, cells)| format!("| `{word}` | {cells} |\n")).collect();
    let english = page(&format!("docs/en/{file}")).unwrap_or_default();
    let first = format!("| `{}` |", rows[0].0);
    let table = english.lines().skip_while(|line| !line.starts_with(&first)).take_while(|line| line.starts_with("| `"));
    let shown: String = table.map(|line| format!("{line}\n")).collect();
    assert!(shown == expected, "the table of docs/en/{file} has to be:\n{expected}\nIt is:\n{shown}");
    let chinese = page(&format!("docs/zh/{file}")).unwrap_or_default();
    for (word, _) in &rows {
        let has_row = chinese.contains(&format!("\n| `{word}` |")) || chinese.contains(&format!("\n| {word} |"));
        assert!(has_row, "docs/zh/{file} has no row for `{word}`");
    }
}

/// Fails unless the rows of `docs/zh/FILE` that begin with a word in lower case are those of `words`, in any order.
pub(crate) fn assert_chinese_rows(file: &str, words: impl Iterator<Item = String>) {
    let chinese = page(&format!("docs/zh/{file}")).unwrap_or_default();
    let rows = chinese.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned()));
    let mut rows: Vec<String> = rows.filter(|row| row.starts_with(|first: char| first.is_ascii_lowercase())).collect();
    let mut words: Vec<String> = words.collect();
    rows.sort_unstable();
    words.sort_unstable();
    assert_eq!(rows, words, "docs/zh/{file}");
}
