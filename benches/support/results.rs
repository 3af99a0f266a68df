//! Medians of what was measured, as tables.

use std::time::Duration;

use super::table::{Table, mebibytes, megabytes};

/// What one run of a way took and made.
#[derive(Clone, Copy)]
pub struct Sample {
    pub wall: Duration,
    pub cpu: Duration,
    pub peak: u64,
    pub size: u64,
}

/// The medians of one way.
pub struct Row {
    name: String,
    /// Absent if it failed.
    figures: Option<Figures>,
    failure: Option<String>,
}

#[derive(Clone, Copy)]
pub struct Figures {
    pub wall: Duration,
    pub fastest: Duration,
    pub slowest: Duration,
    pub cpu: Duration,
    pub peak: u64,
    pub size: u64,
}

impl Row {
    pub fn new(name: String, samples: &[Sample], failure: Option<String>) -> Row {
        let figures = failure.is_none().then(|| Figures {
            wall: median(samples, |sample| sample.wall),
            fastest: samples.iter().map(|sample| sample.wall).min().unwrap(),
            slowest: samples.iter().map(|sample| sample.wall).max().unwrap(),
            cpu: median(samples, |sample| sample.cpu),
            peak: median(samples, |sample| sample.peak),
            size: median(samples, |sample| sample.size),
        });
        Row {
            name,
            figures,
            failure,
        }
    }
}

fn median<T: Ord>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
    let mut values: Vec<T> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.swap_remove(values.len() / 2)
}

pub struct Results {
    pub rows: Vec<Row>,
    /// No peak below that of the benchmark itself can be seen.
    pub own_peak: u64,
}

/// A further column: its head, and its cell for a way.
pub type Column<'a> = (&'a str, &'a dyn Fn(&Figures) -> String);

impl Results {
    pub fn print(&self, more: &[Column<'_>]) {
        let heads = ["", "wall s", "range s", "CPU s", "peak MiB", "MB"];
        let mut table = Table::new(heads.into_iter().chain(more.iter().map(|column| column.0)));
        for row in &self.rows {
            let cells = match &row.figures {
                Some(figures) => {
                    let mut cells = figures.cells(self.own_peak);
                    cells.extend(more.iter().map(|column| column.1(figures)));
                    cells
                }
                None => {
                    let mut cells = vec![String::new(); heads.len() - 1 + more.len()];
                    cells[0] = "failed".to_owned();
                    cells
                }
            };
            table.row([row.name.clone()].into_iter().chain(cells));
        }
        println!("{table}");
        for row in &self.rows {
            if let Some(failure) = &row.failure {
                println!("{} failed: {failure}\n", row.name);
            }
        }
    }

    pub fn figures(&self, name: &str) -> Option<Figures> {
        self.rows.iter().find(|row| row.name == name)?.figures
    }

    /// Prints how many times as fast the first of each pair is as the second, how much of the
    /// second's size it needs, and what is wanted. Pairs of which one was not measured are left out.
    pub fn compare(&self, pairs: &[(&str, &str, &str)]) {
        let mut table = Table::new(["", "beside", "times as fast", "size", "goal"]);
        for (ours, theirs, goal) in pairs {
            let (Some(our), Some(their)) = (self.figures(ours), self.figures(theirs)) else {
                continue;
            };
            table.row([
                (*ours).to_owned(),
                (*theirs).to_owned(),
                format!("{:.2}", their.wall.as_secs_f64() / our.wall.as_secs_f64()),
                match their.size {
                    0 => String::new(),
                    size => format!("{:.3}", our.size as f64 / size as f64),
                },
                (*goal).to_owned(),
            ]);
        }
        if table.has_rows() {
            println!("{table}");
        }
    }
}

impl Figures {
    fn cells(&self, own_peak: u64) -> Vec<String> {
        vec![
            format!("{:.2}", self.wall.as_secs_f64()),
            format!(
                "{:.2}–{:.2}",
                self.fastest.as_secs_f64(),
                self.slowest.as_secs_f64()
            ),
            format!("{:.2}", self.cpu.as_secs_f64()),
            if self.peak > own_peak {
                mebibytes(self.peak)
            } else {
                format!("≤ {}", mebibytes(own_peak))
            },
            match self.size {
                0 => String::new(),
                size => megabytes(size),
            },
        ]
    }
}
