//! From bytes that arrive in any pieces to whole messages.

use super::assembly::Assembly;
use super::frame::{ControlKind, DataKind, FrameHeader, FrameKind, HEADER_BYTES_MAX};
use super::mask::unmask;
use super::{Message, ProtocolError};
use crate::limits::Limits;

/// Bytes that arrived, consumed from the front. Payloads are unmasked in place, so what has been consumed
/// is not what was received any more.
#[derive(Debug)]
pub struct Input<'b> {
    bytes: &'b mut [u8],
}

impl<'b> Input<'b> {
    /// All of `bytes` is still to be read.
    pub const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been consumed.
    #[must_use]
    pub const fn remaining(&self) -> &[u8] {
        self.bytes
    }

    /// Whether everything has been consumed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Consumes `count` bytes, or nothing where there are fewer.
    fn take(&mut self, count: usize) -> Option<&'b mut [u8]> {
        self.bytes.split_off_mut(..count)
    }

    /// Consumes `count` bytes, or all there are.
    fn take_up_to(&mut self, count: usize) -> &'b mut [u8] {
        self.take(count.min(self.bytes.len())).unwrap_or_default()
    }
}

/// Turns a client's bytes into messages, whatever pieces they come in.
///
/// An unfragmented frame that lies whole in the input is unmasked there and lent from there: nothing is
/// copied or allocated. Only a frame that is cut off or a fragmented message puts a buffer into the decoder,
/// which grows with the bytes that arrive and is freed by the call after the one that lent the message. So a
/// decoder that is called until it answers `Ok(None)` owns no buffer between messages, and is 8 bytes.
///
/// # Memory
/// A decoder holds at most `message_bytes_max` and a few hundred bytes, and no more than twice what has
/// arrived of the message and a few hundred bytes. A frame is refused from its header alone: nothing is
/// reserved for it.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// What a decoder keeps from one call to the next.
///
/// | frame              | message | what has arrived                                | what comes next        |
/// |--------------------|---------|-------------------------------------------------|------------------------|
/// | `Header`, no byte  | some    | one or more fragments                           | any frame              |
/// | `Header`, bytes    | any     | the same or nothing, and the start of a header  | the rest of the header |
/// | `Data`             | some    | a data frame's header and a part of its payload | more payload           |
/// | `Data`, complete   | some    | a whole message, lent out                       | the next call drops it |
/// | `Control`          | any     | a control frame's header and a part of it       | more payload           |
/// | `Control`,complete | any     | a whole control frame, lent out                 | the next call drops it |
#[derive(Debug, Default)]
struct Partial {
    /// The data message that frames are adding to.
    message: Option<Assembly>,
    frame: Frame,
}

/// How far the frame under way has got.
#[derive(Debug)]
enum Frame {
    Header(HeaderStart),
    Data { header: FrameHeader, received: usize },
    Control { header: FrameHeader, kind: ControlKind, payload: Vec<u8> },
}

impl Default for Frame {
    fn default() -> Self {
        Self::Header(HeaderStart::default())
    }
}

/// The bytes of a header that is not complete, none between two frames.
#[derive(Debug, Default, Clone, Copy)]
struct HeaderStart {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderStart {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Adds a byte. A header is complete before the room for it is full.
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }
}

/// A message that can be lent to the caller.
enum Ready<'b> {
    /// An unfragmented data message that lies in the input.
    Data(DataKind, &'b [u8]),
    /// A control frame that lies in the input.
    Control(ControlKind, &'b [u8]),
    /// What the decoder has collected: the control frame under way if there is one, or else the message.
    Collected,
}

impl Decoder {
    /// A decoder at the start of a connection's first frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// The next whole message from `input`, which is fed piece by piece as it arrives.
    ///
    /// `Ok(None)` means that the input is used up; the decoder has taken over what is incomplete. Call it
    /// until then: a caller that stops earlier has to feed the rest of the input later, and the decoder goes
    /// on holding the memory of the message that it lent last.
    ///
    /// How the bytes are cut into inputs changes neither the messages nor the error.
    ///
    /// # Errors
    /// The peer broke the protocol or a limit. Text that can't be UTF-8 is refused at the first such byte, a
    /// frame with its header. The decoder has lost its place then and must not be used again.
    ///
    /// After a [`Message::Close`] the peer's bytes mean nothing any more (RFC 6455, section 1.4): drop them.
    pub fn decode<'m, 'b: 'm>(
        &'m mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<Message<'m>>, ProtocolError> {
        self.release_lent();
        let ready = match self.advance(input, limits) {
            Ok(ready) => ready,
            Err(error) => {
                self.partial = None;
                return Err(error);
            }
        };
        self.check_invariants(input, ready.as_ref());
        match ready {
            None => Ok(None),
            Some(Ready::Data(kind, payload)) => Message::data(kind, payload).map(Some),
            Some(Ready::Control(kind, payload)) => Message::control(kind, payload).map(Some),
            Some(Ready::Collected) => self.lend(),
        }
    }

    /// Whether the decoder stands between two messages and owns no buffer.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes of memory that the decoder has allocated.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let Some(partial) = &self.partial else { return 0 };
        let control = match &partial.frame {
            Frame::Control { payload, .. } => payload.capacity(),
            Frame::Header(_) | Frame::Data { .. } => 0,
        };
        size_of::<Partial>() + control + partial.message.as_ref().map_or(0, Assembly::capacity)
    }

    /// Drops what the call before has lent out. A complete frame is there at a call's start only for that.
    fn release_lent(&mut self) {
        let Some(partial) = self.partial.as_deref_mut() else { return };
        match &partial.frame {
            Frame::Data { header, received } if *received == header.len => partial.message = None,
            Frame::Control { header, payload, .. } if payload.len() == header.len => {}
            Frame::Header(_) | Frame::Data { .. } | Frame::Control { .. } => return,
        }
        partial.frame = Frame::default();
        if partial.message.is_none() {
            self.partial = None;
        }
    }

    /// Reads frames until a message is ready or the input used up.
    fn advance<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<Ready<'b>>, ProtocolError> {
        loop {
            if !self.is_inside_payload() {
                let Some(header) = self.read_header(input)? else { return Ok(None) };
                self.admit(&header, limits)?;
                if let Some(ready) = take_whole(&header, input) {
                    return Ok(Some(ready));
                }
                self.begin_frame(header);
            }
            let Some(partial) = self.partial.as_deref_mut() else { return Ok(None) };
            match partial.read_payload(input, limits)? {
                Progress::Starved => return Ok(None),
                Progress::Fragment => {}
                Progress::Whole => return Ok(Some(Ready::Collected)),
            }
        }
    }

    fn is_inside_payload(&self) -> bool {
        self.partial.as_deref().is_some_and(|partial| !matches!(partial.frame, Frame::Header(_)))
    }

    /// Reads the next header, or keeps the start of it.
    fn read_header(&mut self, input: &mut Input<'_>) -> Result<Option<FrameHeader>, ProtocolError> {
        if let Some(Partial { frame: Frame::Header(start), message }) = self.partial.as_deref_mut()
            && start.len > 0
        {
            // At most 14 bytes, and a cut through a header is rare: one byte at a time is fast enough.
            while let Some([byte]) = input.take(1) {
                start.push(*byte);
                if let Some((header, _)) = FrameHeader::decode(start.as_slice())? {
                    *start = HeaderStart::default();
                    if message.is_none() {
                        self.partial = None;
                    }
                    return Ok(Some(header));
                }
            }
            return Ok(None);
        }
        if let Some((header, len)) = FrameHeader::decode(input.remaining())? {
            input.take_up_to(len);
            return Ok(Some(header));
        }
        if !input.is_empty() {
            let mut start = HeaderStart::default();
            input.take_up_to(HEADER_BYTES_MAX).iter().for_each(|byte| start.push(*byte));
            self.partial.get_or_insert_default().frame = Frame::Header(start);
        }
        Ok(None)
    }

    /// Holds a header against the message under way and the limits, before anything is kept for the frame.
    fn admit(&self, header: &FrameHeader, limits: &Limits) -> Result<(), ProtocolError> {
        let message = self.partial.as_deref().and_then(|partial| partial.message.as_ref());
        let (bytes, fragments) = match (header.kind, message) {
            // The 125 bytes of a control frame are below every limit's least value.
            (FrameKind::Control(_), _) => return Ok(()),
            (FrameKind::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (FrameKind::Data(_), Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (FrameKind::Data(_), None) => (0, 0),
            (FrameKind::Continuation, Some(message)) => (message.bytes().len(), message.fragments()),
        };
        if header.len > limits.frame_bytes_max {
            return Err(ProtocolError::FrameTooLong);
        }
        if bytes.saturating_add(header.len) > limits.message_bytes_max {
            return Err(ProtocolError::MessageTooLong);
        }
        if fragments >= limits.fragments_max {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(())
    }

    /// Makes room for a frame whose payload is added to others or has not arrived whole.
    fn begin_frame(&mut self, header: FrameHeader) {
        let partial = self.partial.get_or_insert_default();
        partial.frame = match header.kind {
            FrameKind::Control(kind) => Frame::Control { header, kind, payload: Vec::new() },
            FrameKind::Data(kind) => {
                partial.message = Some(Assembly::new(kind));
                Frame::Data { header, received: 0 }
            }
            FrameKind::Continuation => Frame::Data { header, received: 0 },
        };
        if let (Frame::Data { .. }, Some(message)) = (&partial.frame, &mut partial.message) {
            message.begin_fragment();
        }
    }

    /// The message that [`Ready::Collected`] speaks of.
    fn lend(&self) -> Result<Option<Message<'_>>, ProtocolError> {
        match self.partial.as_deref() {
            Some(Partial { frame: Frame::Control { kind, payload, .. }, .. }) => {
                Message::control(*kind, payload).map(Some)
            }
            Some(Partial { message: Some(message), .. }) => {
                Message::data(message.kind(), message.bytes()).map(Some)
            }
            Some(Partial { message: None, .. }) | None => Ok(None),
        }
    }

    /// What holds after each call that has not failed.
    fn check_invariants(&self, input: &Input<'_>, ready: Option<&Ready<'_>>) {
        debug_assert!(ready.is_some() || input.is_empty(), "input is left though nothing is ready");
        let Some(partial) = self.partial.as_deref() else { return };
        match &partial.frame {
            Frame::Header(start) => {
                debug_assert!(start.len > 0 || partial.message.is_some(), "a buffer without content");
            }
            Frame::Data { header, received } => {
                debug_assert!(partial.message.is_some(), "a data frame without its message");
                debug_assert_eq!(*received == header.len, ready.is_some(), "complete and lent are one");
            }
            Frame::Control { header, payload, .. } => {
                debug_assert_eq!(payload.len() == header.len, ready.is_some(), "complete and lent are one");
            }
        }
    }
}

/// The whole message that a frame is, where all of it lies in the input.
fn take_whole<'b>(header: &FrameHeader, input: &mut Input<'b>) -> Option<Ready<'b>> {
    match header.kind {
        FrameKind::Control(kind) => {
            let payload = input.take(header.len)?;
            unmask(payload, header.mask, 0);
            Some(Ready::Control(kind, payload))
        }
        FrameKind::Data(kind) if header.fin => {
            let payload = input.take(header.len)?;
            unmask(payload, header.mask, 0);
            Some(Ready::Data(kind, payload))
        }
        FrameKind::Data(_) | FrameKind::Continuation => None,
    }
}

/// What came of reading payload.
enum Progress {
    /// The frame is not complete and the input used up.
    Starved,
    /// The frame is complete, its message is not.
    Fragment,
    /// The control frame or the message is complete.
    Whole,
}

impl Partial {
    /// Takes over what the input holds of the frame under way.
    fn read_payload(&mut self, input: &mut Input<'_>, limits: &Limits) -> Result<Progress, ProtocolError> {
        match (&mut self.frame, &mut self.message) {
            (Frame::Control { header, payload, .. }, _) => {
                let piece = input.take_up_to(header.len.saturating_sub(payload.len()));
                unmask(piece, header.mask, payload.len());
                payload.extend_from_slice(piece);
                Ok(if payload.len() == header.len { Progress::Whole } else { Progress::Starved })
            }
            (Frame::Data { header, received }, Some(message)) => {
                let missing = header.len.saturating_sub(*received);
                let ceiling = if header.fin {
                    message.bytes().len().saturating_add(missing)
                } else {
                    limits.message_bytes_max
                };
                let piece = input.take_up_to(missing);
                unmask(piece, header.mask, *received);
                message.append(piece, ceiling)?;
                *received += piece.len();
                if *received < header.len {
                    return Ok(Progress::Starved);
                }
                if header.fin {
                    return Ok(Progress::Whole);
                }
                self.frame = Frame::default();
                Ok(Progress::Fragment)
            }
            // Only a payload under way is read, and a data frame has a message.
            (Frame::Header(_) | Frame::Data { .. }, _) => Ok(Progress::Starved),
        }
    }
}
