//! The `metropod` binary.

fn main() {
    println!("metropod {}", env!("CARGO_PKG_VERSION"));
}
