//! The format's bytes: docs/format-journal.md in hexadecimal. A change here is a change of format.

mod common;

use bytes::Bytes;
use common::{DIR, config, drain, open_journal};
use metropod_journal::media::sim::SimMedia;
use metropod_journal::media::{Create, Media, Open};
use metropod_journal::{Record, StreamId};

const SEGMENT_HEADER: &str = "4d504f444a5345470100000000000000a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a50100000000000000efcdab89674523010080000000000000000000001ed6e028";
const OPENING_FRAME: &str = "4d506a66010002000100000000000000efcdab896745230101000000000000000100000000000000000000000000000000000000000000000100000000000000000000000000000000000000740691ea000000000000000000000000f5ad67e2";
const RECORDS_FRAME: &str = "4d506a66010000000100000000000000efcdab896745230102000000000000000100000000000000000000000000000001000000000000000100000000000000020000004e000000f5ad67e24b5a8dc500000000000000000000000075469343303132333435363738396162636465668877665544332211040000000a000000626f64796174746163686d656e740000000000000000000000000000000001000000000000000000000000000000";
const CLOSING_FRAME: &str = "4d506a66010001000100000000000000efcdab896745230103000000000000000300000000000000020000000000000002000000000000000100000000000000000000000000000075469343740691ea000000000000000000000000b830efed";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn segments_frames_and_records_have_the_documented_bytes() {
    let media = SimMedia::new();
    let (mut writer, _) = open_journal(&media, config(0x0123_4567_89AB_CDEF)).unwrap();
    let attachment = Bytes::from_static(b"attachment");
    writer.push(Record {
        stream: StreamId(*b"0123456789abcdef"),
        index: 0x1122_3344_5566_7788,
        body: Bytes::from_static(b"body"),
        attachment,
    });
    writer.push(Record {
        stream: StreamId::default(),
        index: 1,
        body: Bytes::new(),
        attachment: Bytes::new(),
    });
    drain(&media, &mut writer);
    writer.push_closing();
    drain(&media, &mut writer);

    let file =
        media.open(&format!("{DIR}/000001.seg"), Open { create: Create::Never, direct: false }).unwrap();
    let mut data = vec![0; media.len(file).unwrap() as usize];
    media.read(file, 0, &mut data).unwrap();
    let blocks: Vec<&[u8]> = data.chunks(4096).collect();
    let parts = [
        (SEGMENT_HEADER, 64, blocks[0]),
        (OPENING_FRAME, 96, blocks[1]),
        (RECORDS_FRAME, 96 + 32 + 14 + 32, blocks[2]),
        (CLOSING_FRAME, 96, blocks[3]),
    ];
    for (golden, length, block) in parts {
        assert_eq!(hex(&block[..length]), golden);
        assert!(block[length..].iter().all(|byte| *byte == 0));
    }
}
