//! Counts an array's starts, so that its connections of different lives can be told apart.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use metropod_protocol::Incarnation;

/// Raises the count and makes it durable. A damaged count would let an older life pass for a newer one: it is refused.
pub(crate) fn next(directory: &Path) -> io::Result<Incarnation> {
    let path = directory.join("starts");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u64>().map_err(|_| {
            let text = format!(
                "{} does not hold a number; restore it, or write into it a number higher than the array ever had",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let count = before + 1;
    let temporary = directory.join("starts.new");
    let mut file = fs::File::create(&temporary)?;
    writeln!(file, "{count}")?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    fs::File::open(directory)?.sync_all()?;
    Ok(Incarnation(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_higher_number_and_damage_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(next(directory.path()).unwrap(), Incarnation(1));
        assert_eq!(next(directory.path()).unwrap(), Incarnation(2));
        fs::write(directory.path().join("starts"), "many").unwrap();
        assert!(next(directory.path()).is_err());
    }
}
