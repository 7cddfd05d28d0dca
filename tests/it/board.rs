//! Messages that are kept for those who join later.

use std::time::{Duration, Instant};

use hailer::board::{Board, Kept};
use hailer::channel::PayloadBuf;

fn ids(board: &Board, taken: u64, now: Instant) -> Vec<String> {
    board.for_joiner("t", taken, now, usize::MAX).into_iter().map(|kept| kept.id.into()).collect()
}

#[test]
fn a_joiner_gets_what_its_shard_has_taken_and_what_has_time_left() {
    let (board, now) = (Board::new(), Instant::now());
    let kept =
        |id: &str, seconds: u64| Kept::new(id, "e", PayloadBuf::empty(), now + Duration::from_secs(seconds));
    board.restore("t", kept("before", 10), 9);
    assert_eq!(board.keep("t", kept("first", 20), 9, || Ok::<_, ()>(7)), Ok(7));
    assert_eq!(board.keep("t", kept("refused", 20), 9, || Err(())), Err(()));
    assert_eq!(ids(&board, 6, now), ["before"]);
    assert_eq!(ids(&board, 7, now), ["before", "first"]);
    assert_eq!(ids(&board, 7, now + Duration::from_secs(10)), ["first"]);
    board.forget_expired(now + Duration::from_secs(10));
    assert_eq!(board.len(), 1);
    assert!(board.remove("t", "first") && !board.remove("t", "first"));
    assert!(board.is_empty());
}

#[test]
fn the_oldest_makes_room() {
    let (board, now) = (Board::new(), Instant::now());
    for sequence in 1..=4 {
        let kept = Kept::new(&sequence.to_string(), "e", PayloadBuf::empty(), now + Duration::from_secs(1));
        board.keep("t", kept, 3, || Ok::<_, ()>(sequence)).unwrap();
    }
    assert_eq!(ids(&board, 4, now), ["2", "3", "4"]);
}

#[test]
fn the_newest_are_given_where_there_is_no_room_for_all() {
    let (board, now) = (Board::new(), Instant::now());
    let payload = PayloadBuf::json(&"x".repeat(998)).unwrap();
    for id in ["1", "2", "3", "4"] {
        board.restore("t", Kept::new(id, "e", payload.clone(), now + Duration::from_secs(1)), 9);
    }
    let given = |room| {
        board.for_joiner("t", 0, now, room).into_iter().map(|kept| kept.id.into()).collect::<Vec<String>>()
    };
    assert!(given(0).is_empty());
    assert_eq!(given(1), ["4"]);
    // 1,000 bytes of payload may be 2,000 of a string, and have some 70 around them.
    assert_eq!(given(2_000), ["4"]);
    assert_eq!(given(2_100), ["3", "4"]);
    assert_eq!(given(8_000), ["1", "2", "3", "4"]);
}
