//! A topic and its streams.

use super::Stream;
use crate::channel::{RouteIndex, TopicName};
use crate::prepared::WireForm;

pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) route: RouteIndex,
    streams: Streams,
}

/// A stream for each wire form that is subscribed. A user's own topic has one, which lies in the topic itself;
/// boxes are for what large topics have more of.
enum Streams {
    One(WireForm, Stream),
    Many(Box<[Option<Stream>; WireForm::ALL.len()]>),
}

impl Topic {
    /// A topic with a stream in which nobody is yet.
    pub(super) fn new(name: TopicName, route: RouteIndex, form: WireForm) -> Self {
        Self { name, route, streams: Streams::One(form, Stream::default()) }
    }

    /// The streams of a topic, with their forms.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (WireForm, &Stream)> {
        WireForm::ALL.into_iter().filter_map(|form| Some((form, self.stream(form)?)))
    }

    pub(super) fn stream(&self, form: WireForm) -> Option<&Stream> {
        match &self.streams {
            Streams::One(only, stream) => (*only == form).then_some(stream),
            Streams::Many(streams) => streams[form as usize].as_ref(),
        }
    }

    pub(super) fn stream_mut(&mut self, form: WireForm) -> Option<&mut Stream> {
        match &mut self.streams {
            Streams::One(only, stream) => (*only == form).then_some(stream),
            Streams::Many(streams) => streams[form as usize].as_mut(),
        }
    }

    pub(super) fn stream_or_insert(&mut self, form: WireForm) -> &mut Stream {
        if let Streams::One(only, stream) = &mut self.streams
            && *only != form
        {
            let mut streams: Box<[Option<Stream>; WireForm::ALL.len()]> = Box::default();
            streams[*only as usize] = Some(std::mem::take(stream));
            self.streams = Streams::Many(streams);
        }
        match &mut self.streams {
            Streams::One(_, stream) => stream,
            Streams::Many(streams) => streams[form as usize].get_or_insert_default(),
        }
    }

    /// Forgets the streams without subscribers; whether none is left, so that the topic is to be forgotten too.
    pub(super) fn forget_empty(&mut self) -> bool {
        match &mut self.streams {
            Streams::One(_, stream) => stream.subscribers.is_empty(),
            Streams::Many(streams) => {
                let is_empty = |stream: &mut Stream| stream.subscribers.is_empty();
                streams.iter_mut().for_each(|place| drop(place.take_if(is_empty)));
                let mut left = WireForm::ALL.into_iter().filter(|form| streams[*form as usize].is_some());
                match (left.next(), left.next()) {
                    (None, _) => return true,
                    (Some(form), None) => {
                        if let Some(stream) = streams[form as usize].take() {
                            self.streams = Streams::One(form, stream);
                        }
                    }
                    _ => {}
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subscriber;
    use super::*;

    fn forms(topic: &Topic) -> Vec<(WireForm, u32)> {
        topic.streams().map(|(form, stream)| (form, stream.subscribers[0].slot)).collect()
    }

    #[test]
    fn a_topic_has_the_streams_that_are_subscribed() {
        use WireForm::{LongPollV2, WebSocketV1, WebSocketV2};
        let subscriber = |slot| Subscriber { cursor: 0, slot };
        let mut topic = Topic::new("user:ada".into(), RouteIndex(0), WebSocketV2);
        for (form, slot) in [(WebSocketV2, 2), (LongPollV2, 3), (WebSocketV1, 1)] {
            topic.stream_or_insert(form).subscribers.push(subscriber(slot));
        }
        assert_eq!(forms(&topic), [(WebSocketV1, 1), (WebSocketV2, 2), (LongPollV2, 3)]);
        for (form, left) in
            [(WebSocketV2, vec![(WebSocketV1, 1), (LongPollV2, 3)]), (WebSocketV1, vec![(LongPollV2, 3)])]
        {
            topic.stream_mut(form).unwrap().subscribers.swap_remove(0);
            assert!(!topic.forget_empty());
            assert_eq!(forms(&topic), left);
            assert!(topic.stream(form).is_none());
        }
        assert!(matches!(topic.streams, Streams::One(LongPollV2, _)));
        topic.stream_mut(LongPollV2).unwrap().subscribers.swap_remove(0);
        assert!(topic.forget_empty());
    }
}
