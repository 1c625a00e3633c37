//! DNS messages (RFC 1035, RFC 6891); the only file that names the DNS crate.
//!
//! Only questions are read and only our own answers are written; what others answer is passed on as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, OPT, PTR, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

/// Length of a message's header.
const HEADER: usize = 12;
/// Largest answer over UDP to who does not say more (RFC 1035, 2.3.4).
const PLAIN_LIMIT: u16 = 512;
/// Largest answer over UDP whatever the client says, so that nothing is fragmented (DNS flag day 2020).
const OWN_LIMIT: u16 = 1232;
/// Largest answer over TCP.
pub const TCP_LIMIT: u16 = u16::MAX;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in lower case, without the dot at its end.
    pub name: String,
    /// What about it.
    pub kind: Kind,
    /// Largest answer over UDP that the client takes, in bytes.
    pub udp_limit: u16,
}

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Anything else.
    Other,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These addresses, in this order; none is "the name exists, but has no such record".
    Addresses(Vec<Ipv4Addr>),
    /// The name of an address.
    Pointer(String),
    /// There is no such name, for no kind of record.
    NoName,
    /// Not done here.
    Refused,
    /// Those who might know could not be asked.
    Failure,
}

/// Why a message is no question to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not even a header, or is an answer: saying anything would only make noise.
    #[error("not a question")]
    Ignore,
    /// Not readable.
    #[error("a malformed question")]
    Format,
    /// Something other than a standard query.
    #[error("an unknown operation")]
    NotImplemented,
}

/// Reads a question.
///
/// # Errors
/// [`Malformed`]; [`reject`] makes the answer to it.
pub fn parse(message: &[u8]) -> Result<Question, Malformed> {
    /// `QR`: an answer (RFC 1035, 4.1.1).
    const IS_ANSWER: u8 = 0x80;
    if message.len() < HEADER || message[2] & IS_ANSWER != 0 {
        return Err(Malformed::Ignore);
    }
    let packet = Packet::parse(message).map_err(|_| Malformed::Format)?;
    if packet.opcode() != OPCODE::StandardQuery {
        return Err(Malformed::NotImplemented);
    }
    let [question] = packet.questions.as_slice() else { return Err(Malformed::Format) };
    let kind = match (question.qtype, question.qclass) {
        (QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN)) => Kind::A,
        (QTYPE::TYPE(TYPE::AAAA), QCLASS::CLASS(CLASS::IN)) => Kind::Aaaa,
        (QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN)) => Kind::Ptr,
        _ => Kind::Other,
    };
    let labels: Vec<_> = question.qname.as_bytes().map(String::from_utf8_lossy).collect();
    let udp_limit = packet.opt().map_or(PLAIN_LIMIT, |opt| opt.udp_packet_size.clamp(PLAIN_LIMIT, OWN_LIMIT));
    Ok(Question { name: labels.join(".").to_ascii_lowercase(), kind, udp_limit })
}

/// Writes the answer to a message that [`parse`] could read, at most `limit` bytes long: what does not fit is left
/// out and the client told to ask over TCP. Our own names may change at any time, so that they have TTL 0.
///
/// # Errors
/// [`Malformed::Format`] when the message is not one.
pub fn build(message: &[u8], answer: &Answer, limit: u16) -> Result<Vec<u8>, Malformed> {
    let query = Packet::parse(message).map_err(|_| Malformed::Format)?;
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    if query.opt().is_some() {
        *reply.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: OWN_LIMIT, version: 0 });
    }
    let question = query.questions.first().ok_or(Malformed::Format)?.clone();
    let record = |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, 0, data);
    let records: Vec<ResourceRecord<'_>> = match answer {
        Answer::Addresses(all) => all.iter().map(|a| record(RData::A(A::from(*a)))).collect(),
        Answer::Pointer(name) => {
            vec![record(RData::PTR(PTR(Name::new(name).map_err(|_| Malformed::Format)?)))]
        }
        Answer::NoName | Answer::Refused | Answer::Failure => Vec::new(),
    };
    *reply.rcode_mut() = match answer {
        Answer::Addresses(_) | Answer::Pointer(_) => RCODE::NoError,
        Answer::NoName => RCODE::NameError,
        Answer::Refused => RCODE::Refused,
        Answer::Failure => RCODE::ServerFailure,
    };
    reply.questions.push(question.clone());
    reply.answers = records;
    loop {
        let bytes = reply.build_bytes_vec_compressed().map_err(|_| Malformed::Format)?;
        if bytes.len() <= usize::from(limit) || reply.answers.is_empty() {
            return Ok(bytes);
        }
        reply.set_flags(PacketFlag::TRUNCATION);
        let keep = reply.answers.len() / 2;
        reply.answers.truncate(keep);
    }
}

/// Writes the answer to what could not be read, if there is one.
#[must_use]
pub fn reject(message: &[u8], why: Malformed) -> Option<Vec<u8>> {
    let code = match why {
        Malformed::Ignore => return None,
        Malformed::Format => 1,
        Malformed::NotImplemented => 4,
    };
    let mut reply = message.get(..HEADER)?.to_vec();
    reply[2] |= 0x80; // QR
    reply[3] = code;
    reply[4..].fill(0); // no question, no record
    Some(reply)
}

/// Tells whether another server's answer means that a further one should be asked: SERVFAIL or REFUSED.
#[must_use]
pub fn is_failure(answer: &[u8]) -> bool {
    answer.get(3).is_some_and(|b| matches!(b & 0xf, 2 | 5))
}

/// Tells whether `answer` is an answer to `question`, going by the id and the question's bytes.
#[must_use]
pub fn answers(answer: &[u8], question: &[u8]) -> bool {
    if answer.len() < HEADER || answer[2] & 0x80 == 0 || answer.get(..2) != question.get(..2) {
        return false;
    }
    // A server that fails may leave the question out.
    if answer[4..6] == [0, 0] {
        return is_failure(answer);
    }
    match (section(answer), section(question)) {
        (Some(a), Some(q)) => a.eq_ignore_ascii_case(q),
        _ => false,
    }
}

/// The bytes of the first question: uncompressed, since nothing stands before it.
fn section(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return message.get(HEADER..at + 5),
            length if length < 64 => at += 1 + length,
            _ => return None,
        }
    }
}

/// Writes a question about a name (used by our own client and by tests).
///
/// # Errors
/// [`Malformed::Format`] when the text is no name.
pub fn question(id: u16, name: &str, kind: Kind) -> Result<Vec<u8>, Malformed> {
    let kind = match kind {
        Kind::A => TYPE::A,
        Kind::Aaaa => TYPE::AAAA,
        Kind::Ptr => TYPE::PTR,
        Kind::Other => TYPE::MX,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(|_| Malformed::Format)?;
    packet.questions.push(simple_dns::Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(|_| Malformed::Format)
}

/// Reads the addresses, IPv4 alone, and the response code of an answer.
///
/// # Errors
/// [`Malformed::Format`] when it is not readable.
pub fn read_answer(message: &[u8]) -> Result<(u8, Vec<Ipv4Addr>), Malformed> {
    let packet = Packet::parse(message).map_err(|_| Malformed::Format)?;
    let addresses = packet.answers.iter().filter_map(|r| match &r.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address)),
        _ => None,
    });
    Ok((message[3] & 0xf, addresses.collect()))
}

/// What an answer to our own question says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The response code: 0 is well, 3 is no such name.
    pub code: u8,
    /// More would be told over TCP.
    pub truncated: bool,
    /// The addresses at the end of any chain of aliases.
    pub addresses: Vec<IpAddr>,
}

/// Reads the addresses of an answer, of both families.
///
/// # Errors
/// [`Malformed::Format`] when it is not readable.
pub fn read_addresses(message: &[u8]) -> Result<Addresses, Malformed> {
    let packet = Packet::parse(message).map_err(|_| Malformed::Format)?;
    let addresses = packet.answers.iter().filter_map(|r| match &r.rdata {
        RData::A(a) => Some(IpAddr::from(Ipv4Addr::from(a.address))),
        RData::AAAA(a) => Some(IpAddr::from(Ipv6Addr::from(a.address))),
        _ => None,
    });
    Ok(Addresses { code: message[3] & 0xf, truncated: message[2] & 2 != 0, addresses: addresses.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, kind: Kind) -> Vec<u8> {
        question(7, name, kind).expect("a name")
    }

    #[test]
    fn a_question_is_read() {
        let q = parse(&ask("Web.Shop_1", Kind::A)).expect("a question");
        assert_eq!(q, Question { name: "web.shop_1".into(), kind: Kind::A, udp_limit: 512 });
        assert_eq!(parse(&ask("x", Kind::Other)).expect("a question").kind, Kind::Other);
    }

    #[test]
    fn answers_carry_the_question_back() {
        let query = ask("web", Kind::A);
        let all = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let reply = build(&query, &Answer::Addresses(all.clone()), 512).expect("an answer");
        assert!(answers(&reply, &query));
        assert_eq!(read_answer(&reply), Ok((0, all)));
        let none = build(&query, &Answer::Addresses(vec![]), 512).expect("an answer");
        assert_eq!(read_answer(&none), Ok((0, vec![])));
        assert_eq!(read_answer(&build(&query, &Answer::NoName, 512).expect("an answer")), Ok((3, vec![])));
        assert!(!answers(&reply, &ask("other", Kind::A)));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_marked() {
        let query = ask("web", Kind::A);
        let all: Vec<_> = (0..200).map(Ipv4Addr::from_bits).collect();
        let reply = build(&query, &Answer::Addresses(all.clone()), 512).expect("an answer");
        assert!(reply.len() <= 512);
        assert_eq!(reply[2] & 2, 2, "TC");
        let whole = build(&query, &Answer::Addresses(all.clone()), TCP_LIMIT).expect("an answer");
        assert_eq!(read_answer(&whole), Ok((0, all.clone())));
        let addresses = all.into_iter().map(IpAddr::from).collect();
        assert_eq!(read_addresses(&whole), Ok(Addresses { code: 0, truncated: false, addresses }));
        assert!(read_addresses(&reply).expect("readable").truncated);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            match parse(&bytes) {
                Ok(_) => { let _ = build(&bytes, &Answer::Addresses(vec![Ipv4Addr::LOCALHOST]), 512); }
                Err(why) => { let _ = reject(&bytes, why); }
            }
            let _ = (read_answer(&bytes), read_addresses(&bytes), answers(&bytes, &bytes), is_failure(&bytes));
        }

        #[test]
        fn a_damaged_question_is_survived(at in 0_usize..40, to: u8) {
            let mut bytes = ask("some.name.of.a.service", Kind::Ptr);
            let at = at % bytes.len();
            bytes[at] = to;
            match parse(&bytes) {
                Ok(_) => { let _ = build(&bytes, &Answer::Pointer("web".into()), 512); }
                Err(why) => { let _ = reject(&bytes, why); }
            }
        }
    }
}
