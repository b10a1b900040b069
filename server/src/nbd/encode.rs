//! One answer in the form that was negotiated.
//!
//! - C1: a read answers exactly the bytes asked for; holes travel as holes where the form allows it.
//! - C2: the last chunk of an answer, and no other, is marked as the last.

use bytes::BufMut;

use super::outbox::Outbox;
use super::reply::Answer;
use super::volume::{Extent, Piece, State};
use super::wire::{self, ALLOCATION_CONTEXT, Errno, Form, allocation, chunk};

/// Zero runs shorter than this travel as data: a chunk of their own would cost the client more.
const HOLE_BYTES_MIN: u64 = 4096;

/// Writes one reply.
pub(super) struct Encoder<'a> {
    pub out: &'a mut Outbox,
    pub form: Form,
    pub cookie: u64,
    /// Where the request began.
    pub offset: u64,
}

impl Encoder<'_> {
    pub fn reply(mut self, answer: Answer) {
        match (self.form, answer) {
            (Form::Extended, Answer::Done) => self.chunk(chunk::FLAG_DONE, chunk::NONE, 0),
            (_, Answer::Done) => self.simple(0),
            (Form::Simple, Answer::Data { pieces, .. }) => {
                self.simple(0);
                pieces.into_iter().for_each(|piece| self.piece(piece));
            }
            (_, Answer::Data { pieces, whole }) => self.data(pieces, whole),
            (Form::Simple, Answer::Failed(error)) => self.simple(error as u32),
            (_, Answer::Failed(error)) => self.error(error),
            (Form::Simple, Answer::Extents(_)) => self.simple(Errno::Invalid as u32),
            (_, Answer::Extents(extents)) => self.extents(&extents),
        }
    }

    fn simple(&mut self, error: u32) {
        wire::put_simple(&mut self.out.gathered, error, self.cookie);
    }

    fn chunk(&mut self, flags: u16, kind: u16, length: u32) {
        let out = &mut self.out.gathered;
        match self.form {
            Form::Extended => wire::put_extended(out, flags, kind, self.cookie, self.offset, length),
            _ => wire::put_structured(out, flags, kind, self.cookie, length),
        }
    }

    fn error(&mut self, error: Errno) {
        let message = error.message();
        self.chunk(chunk::FLAG_DONE, chunk::ERROR, 6 + message.len() as u32);
        self.out.gathered.put_u32(error as u32);
        self.out.gathered.put_u16(message.len() as u16);
        self.out.gathered.put_slice(message.as_bytes());
    }

    fn data(&mut self, pieces: Vec<Piece>, whole: bool) {
        if pieces.is_empty() {
            return self.chunk(chunk::FLAG_DONE, chunk::NONE, 0);
        }
        let mut at = self.offset;
        let mut left = pieces.len();
        let mut rest = pieces.into_iter();
        while left > 0 {
            let run = Run::first(rest.as_slice(), whole);
            left -= run.pieces;
            let flags = if left == 0 { chunk::FLAG_DONE } else { 0 };
            if run.hole {
                self.chunk(flags, chunk::OFFSET_HOLE, 12);
                self.out.gathered.put_u64(at);
                self.out.gathered.put_u32(run.length_bytes as u32);
                rest.by_ref().take(run.pieces).for_each(drop);
            } else {
                self.chunk(flags, chunk::OFFSET_DATA, 8 + run.length_bytes as u32);
                self.out.gathered.put_u64(at);
                rest.by_ref().take(run.pieces).for_each(|piece| self.piece(piece));
            }
            at += run.length_bytes;
        }
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Data(bytes) => self.out.push(bytes),
            Piece::Zero(length) => self.out.push_zeroes(u64::from(length)),
        }
    }

    fn extents(&mut self, extents: &[Extent]) {
        let count = extents.len() as u32;
        if self.form == Form::Extended {
            self.chunk(chunk::FLAG_DONE, chunk::BLOCK_STATUS_EXT, 8 + 16 * count);
            self.out.gathered.put_u32(ALLOCATION_CONTEXT);
            self.out.gathered.put_u32(count);
        } else {
            self.chunk(chunk::FLAG_DONE, chunk::BLOCK_STATUS, 4 + 8 * count);
            self.out.gathered.put_u32(ALLOCATION_CONTEXT);
        }
        for extent in extents {
            let flags = match extent.state {
                State::Data => 0,
                State::Zero => allocation::ZERO,
                State::Hole => allocation::HOLE | allocation::ZERO,
            };
            if self.form == Form::Extended {
                self.out.gathered.put_u64(extent.length);
                self.out.gathered.put_u64(u64::from(flags));
            } else {
                self.out.gathered.put_u32(extent.length as u32);
                self.out.gathered.put_u32(flags);
            }
        }
    }
}

/// Pieces that travel as one chunk.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    pieces: usize,
    length_bytes: u64,
    hole: bool,
}

impl Run {
    /// The first run of `pieces`; `whole` asks for a single one.
    fn first(pieces: &[Piece], whole: bool) -> Run {
        let zeroes = Run::zeroes(pieces);
        if zeroes.pieces == pieces.len() || (!whole && zeroes.length_bytes >= HOLE_BYTES_MIN) {
            return zeroes;
        }
        let mut run = Run { pieces: 0, length_bytes: 0, hole: false };
        while run.pieces < pieces.len() {
            let zeroes = Run::zeroes(&pieces[run.pieces..]);
            if !whole && zeroes.length_bytes >= HOLE_BYTES_MIN {
                break;
            }
            // What is left of a short zero run and the piece after it are data.
            let end = (run.pieces + zeroes.pieces + 1).min(pieces.len());
            run.length_bytes += pieces[run.pieces..end].iter().map(Piece::length_bytes).sum::<u64>();
            run.pieces = end;
        }
        run
    }

    /// The zero pieces that `pieces` begins with.
    fn zeroes(pieces: &[Piece]) -> Run {
        let count = pieces.iter().take_while(|piece| matches!(piece, Piece::Zero(_))).count();
        let length_bytes = pieces[..count].iter().map(Piece::length_bytes).sum();
        Run { pieces: count, length_bytes, hole: true }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf, Bytes};

    use super::*;

    fn encoded(form: Form, offset: u64, answer: Answer) -> Vec<u8> {
        let mut out = Outbox::default();
        Encoder { out: &mut out, form, cookie: 0x0102_0304_0506_0708, offset }.reply(answer);
        let mut parts = out.take();
        let length = parts.remaining();
        parts.copy_to_bytes(length).to_vec()
    }

    fn data(length: usize) -> Piece {
        Piece::Data(Bytes::from(vec![0xaa; length]))
    }

    /// (kind, flags, offset, length or data length) of each content chunk.
    fn chunks(mut bytes: &[u8]) -> Vec<(u16, u16, u64, u32)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes.get_u32(), wire::STRUCTURED_REPLY_MAGIC);
            let (flags, kind, _cookie, length) =
                (bytes.get_u16(), bytes.get_u16(), bytes.get_u64(), bytes.get_u32());
            match kind {
                chunk::OFFSET_HOLE => found.push((kind, flags, bytes.get_u64(), bytes.get_u32())),
                chunk::OFFSET_DATA => {
                    found.push((kind, flags, bytes.get_u64(), length - 8));
                    bytes.advance(length as usize - 8);
                }
                _ => found.push((kind, flags, 0, length)),
            }
        }
        found
    }

    #[test]
    fn a_simple_read_carries_zeroes_in_full() {
        let pieces = vec![data(512), Piece::Zero(100_000), data(512)];
        let bytes = encoded(Form::Simple, 0, Answer::Data { pieces, whole: false });
        assert_eq!(bytes.len(), 16 + 512 + 100_000 + 512);
        assert_eq!(bytes[16 + 511..16 + 513], [0xaa, 0]);
    }

    #[test]
    fn holes_travel_as_holes_and_only_the_last_chunk_is_done() {
        let pieces = vec![data(512), data(512), Piece::Zero(4096), Piece::Zero(512), data(512)];
        let bytes = encoded(Form::Structured, 1 << 20, Answer::Data { pieces, whole: false });
        let at = 1 << 20;
        let expected = [
            (chunk::OFFSET_DATA, 0, at, 1024),
            (chunk::OFFSET_HOLE, 0, at + 1024, 4608),
            (chunk::OFFSET_DATA, 1, at + 5632, 512),
        ];
        assert_eq!(chunks(&bytes), expected);
    }

    #[test]
    fn short_zero_runs_between_data_stay_data() {
        let pieces = vec![Piece::Zero(512), data(512), Piece::Zero(3584), data(512), Piece::Zero(512)];
        let bytes = encoded(Form::Structured, 0, Answer::Data { pieces, whole: false });
        assert_eq!(chunks(&bytes), [(chunk::OFFSET_DATA, 1, 0, 5632)]);
    }

    #[test]
    fn an_unfragmented_read_is_one_chunk_with_its_zeroes() {
        let pieces = vec![data(512), Piece::Zero(65536), data(512)];
        let bytes = encoded(Form::Structured, 0, Answer::Data { pieces, whole: true });
        assert_eq!(chunks(&bytes), [(chunk::OFFSET_DATA, 1, 0, 66560)]);
        let zeroes = vec![Piece::Zero(65536), Piece::Zero(512)];
        let bytes = encoded(Form::Structured, 0, Answer::Data { pieces: zeroes, whole: true });
        assert_eq!(chunks(&bytes), [(chunk::OFFSET_HOLE, 1, 0, 66048)]);
    }

    #[test]
    fn an_empty_read_is_a_bare_final_chunk() {
        let answer = || Answer::Data { pieces: Vec::new(), whole: false };
        assert_eq!(chunks(&encoded(Form::Structured, 0, answer())), [(chunk::NONE, 1, 0, 0)]);
        assert_eq!(encoded(Form::Simple, 0, answer()).len(), 16);
    }

    #[test]
    fn extended_replies_carry_the_offset_of_the_request() {
        let bytes = encoded(Form::Extended, 4096, Answer::Done);
        assert_eq!(bytes.len(), 32);
        assert_eq!(wire::u32_at(&bytes, 0), wire::EXTENDED_REPLY_MAGIC);
        assert_eq!(wire::u64_at(&bytes, 16), 4096);
        let extents = vec![Extent { length: 1 << 40, state: State::Hole }];
        let bytes = encoded(Form::Extended, 0, Answer::Extents(extents));
        assert_eq!(wire::u64_at(&bytes, 40), 1 << 40);
        assert_eq!(wire::u64_at(&bytes, 48), 3);
    }

    #[test]
    fn errors_say_why_where_the_form_allows_it() {
        assert_eq!(encoded(Form::Simple, 0, Answer::Failed(Errno::NoSpace))[4..8], [0, 0, 0, 28]);
        let bytes = encoded(Form::Structured, 0, Answer::Failed(Errno::Shutdown));
        assert_eq!(wire::u16_at(&bytes, 6), chunk::ERROR);
        assert_eq!(wire::u32_at(&bytes, 20), 108);
        assert!(bytes.ends_with(Errno::Shutdown.message().as_bytes()));
    }
}
