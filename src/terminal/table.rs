//! Columns under headings.

use std::io::{self, IsTerminal, Write};

use super::text::is_plain;

/// Rows that are printed with aligned columns.
#[derive(Clone, Debug)]
pub struct Table<const COLUMNS: usize> {
    headings: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub fn new(headings: [&'static str; COLUMNS]) -> Table<COLUMNS> {
        Table {
            headings,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Its cells must be printable.
    pub fn add(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Writes headings and rows to stdout, the headings in bold on a terminal.
    ///
    /// # Errors
    /// What stdout gives.
    pub fn print(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let bold = stdout.is_terminal() && !is_plain();
        let (on, off) = if bold {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        writeln!(stdout, "{on}{}{off}", self.line(self.headings))?;
        for row in &self.rows {
            writeln!(stdout, "{}", self.line(row.each_ref().map(String::as_str)))?;
        }
        stdout.flush()
    }

    fn line(&self, cells: [&str; COLUMNS]) -> String {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = self.width(column);
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].as_str());
        let all = cells.chain([self.headings[column]]);
        all.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["NAME", "X"]);
        table.add(["käse".to_owned(), String::new()]);
        table.add(["k3s-agent".to_owned(), "1".to_owned()]);
        assert_eq!(table.line(table.headings), "NAME       X");
        assert_eq!(table.line(["käse", ""]), "käse");
        assert_eq!(table.line(["k3s-agent", "1"]), "k3s-agent  1");
    }
}
