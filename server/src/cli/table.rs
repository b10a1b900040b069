//! Tables for people: a heading, then rows, columns aligned by their widest cell.

use std::fmt;

/// A table under construction.
#[derive(Debug, Clone, Default)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Said instead of an empty table.
    when_empty: String,
}

impl Table {
    /// With these columns.
    pub fn new<const N: usize>(heading: [&str; N]) -> Table {
        Table { heading: heading.map(str::to_owned).to_vec(), ..Table::default() }
    }

    /// A table of names and values without a heading.
    pub fn of_values() -> Table {
        Table::default()
    }

    /// What is said instead when there are no rows.
    pub fn when_empty(mut self, sentence: &str) -> Table {
        self.when_empty = sentence.to_owned();
        self
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Adds a name and a value.
    pub fn value(&mut self, name: &str, value: impl fmt::Display) {
        self.row([name.to_owned(), value.to_string()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "{}", self.when_empty);
        }
        let lines =
            || Some(&self.heading).filter(|heading| !heading.is_empty()).into_iter().chain(&self.rows);
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                lines().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
            })
            .collect();
        for row in lines() {
            let mut line = String::new();
            for (cell, column) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', column - width(cell) + 2));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "SIZE"]).when_empty("nothing");
        assert_eq!(table.to_string(), "nothing\n");
        table.row(["a-long-name".into(), "1G".into()]);
        table.row(["b".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME         SIZE\na-long-name  1G\nb\n");
    }
}
