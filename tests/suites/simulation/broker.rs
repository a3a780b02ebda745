//! Kafka's rules for transactions: ids, epochs, fencing, timeouts, and what committed readers see.
//!
//! Source: Kafka's `TransactionCoordinator`, with producers of the classic protocol.

use std::collections::BTreeMap;

use crate::world::Millis;

/// What is written: a split of the input, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) split: i64,
    pub(crate) sequence: i64,
}

/// Who writes: one incarnation of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) epoch: i16,
}

/// How a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Open,
    Committed,
    Aborted,
}

/// Why the broker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another incarnation has the id.
    Fenced,
    /// There is no transaction to be ended this way.
    InvalidState,
}

/// What became of an end that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Now,
    Before,
}

#[derive(Debug)]
struct Transaction {
    stand: Stand,
    begun: Millis,
}

#[derive(Debug)]
struct Id {
    number: i64,
    epoch: i16,
    timeout: Millis,
    /// The newest transaction of the id.
    newest: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    ids: BTreeMap<String, Id>,
    transactions: Vec<Transaction>,
    /// By topic and number: which transaction has written what.
    partitions: BTreeMap<(String, u32), Vec<(usize, Record)>>,
    next_number: i64,
    /// Transactions that were open for too long.
    pub(crate) timed_out: u64,
}

impl Broker {
    /// `InitProducerId`: whoever had the id is fenced, and what it had open is aborted.
    pub(crate) fn init(&mut self, id: &str, timeout: Millis) -> Producer {
        let next_number = &mut self.next_number;
        let entry = self.ids.entry(id.to_owned()).or_insert_with(|| {
            *next_number += 1;
            Id {
                number: *next_number,
                epoch: -1,
                timeout,
                newest: None,
            }
        });
        entry.epoch += 1;
        entry.timeout = timeout;
        if let Some(newest) = entry.newest.take()
            && self.transactions[newest].stand == Stand::Open
        {
            self.transactions[newest].stand = Stand::Aborted;
        }
        Producer {
            id: id.to_owned(),
            number: entry.number,
            epoch: entry.epoch,
        }
    }

    /// Appends a record to the open transaction, which begins with the first.
    pub(crate) fn write(
        &mut self,
        producer: &Producer,
        (topic, partition): (&str, u32),
        record: Record,
        now: Millis,
    ) -> Result<(), Refusal> {
        let id = own(&mut self.ids, producer)?;
        let transaction = match id.newest {
            Some(newest) if self.transactions[newest].stand == Stand::Open => newest,
            // One transaction for each incarnation.
            Some(_) => return Err(Refusal::InvalidState),
            None => {
                self.transactions.push(Transaction {
                    stand: Stand::Open,
                    begun: now,
                });
                *id.newest.insert(self.transactions.len() - 1)
            }
        };
        let partition = (topic.to_owned(), partition);
        let log = self.partitions.entry(partition).or_default();
        log.push((transaction, record));
        Ok(())
    }

    /// `EndTxn`.
    pub(crate) fn end(&mut self, producer: &Producer, commit: bool) -> Result<Done, Refusal> {
        let id = own(&mut self.ids, producer)?;
        let newest = id.newest.ok_or(Refusal::InvalidState)?;
        let wanted = if commit {
            Stand::Committed
        } else {
            Stand::Aborted
        };
        let stand = &mut self.transactions[newest].stand;
        match *stand {
            Stand::Open => {
                *stand = wanted;
                Ok(Done::Now)
            }
            stand if stand == wanted => Ok(Done::Before),
            Stand::Committed | Stand::Aborted => Err(Refusal::InvalidState),
        }
    }

    /// `DescribeTransactions`: which incarnation has the id, and how its newest transaction stands.
    pub(crate) fn describe(&self, id: &str) -> Option<(i64, i16, Option<Stand>)> {
        let id = self.ids.get(id)?;
        let stand = id.newest.map(|newest| self.transactions[newest].stand);
        Some((id.number, id.epoch, stand))
    }

    /// Aborts what has been open for too long; its producer is fenced.
    pub(crate) fn expire(&mut self, now: Millis) {
        for id in self.ids.values_mut() {
            let Some(newest) = id.newest else { continue };
            let transaction = &mut self.transactions[newest];
            if transaction.stand == Stand::Open && now >= transaction.begun + id.timeout {
                transaction.stand = Stand::Aborted;
                id.epoch += 1;
                self.timed_out += 1;
            }
        }
    }

    /// What a `read_committed` reader sees of every partition of a topic: nothing behind the first
    /// open transaction.
    pub(crate) fn visible(&self, topic: &str) -> BTreeMap<u32, Vec<Record>> {
        let partitions = self.partitions.iter();
        let partitions = partitions.filter(|((name, _), _)| name == topic);
        partitions
            .map(|((_, partition), log)| {
                let stand = |transaction: usize| self.transactions[transaction].stand;
                let stable = log.iter().take_while(|(by, _)| stand(*by) != Stand::Open);
                let committed = stable.filter(|(by, _)| stand(*by) == Stand::Committed);
                (*partition, committed.map(|(_, record)| *record).collect())
            })
            .collect()
    }
}

fn own<'a>(ids: &'a mut BTreeMap<String, Id>, producer: &Producer) -> Result<&'a mut Id, Refusal> {
    let id = ids.get_mut(&producer.id).ok_or(Refusal::Fenced)?;
    let is_own = id.number == producer.number && id.epoch == producer.epoch;
    if is_own { Ok(id) } else { Err(Refusal::Fenced) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: i64) -> Record {
        Record { split: 0, sequence }
    }

    #[test]
    fn nothing_behind_an_open_transaction_is_seen() {
        let mut broker = Broker::default();
        let (first, second) = (broker.init("a", 100), broker.init("b", 100));
        broker.write(&first, ("t", 0), record(0), 0).unwrap();
        broker.write(&second, ("t", 0), record(1), 0).unwrap();
        assert_eq!(broker.end(&second, true), Ok(Done::Now));
        assert_eq!(broker.visible("t")[&0], []);
        assert_eq!(broker.end(&first, false), Ok(Done::Now));
        assert_eq!(broker.visible("t")[&0], [record(1)]);
    }

    #[test]
    fn a_prepared_transaction_survives_its_process_and_is_ended_by_who_knows_its_epoch() {
        let mut broker = Broker::default();
        let producer = broker.init("a", 100);
        broker.write(&producer, ("t", 0), record(0), 0).unwrap();
        let known = producer.clone();
        assert_eq!(broker.end(&known, true), Ok(Done::Now));
        assert_eq!(broker.end(&known, true), Ok(Done::Before));
        assert_eq!(broker.end(&known, false), Err(Refusal::InvalidState));
        assert_eq!(broker.visible("t")[&0], [record(0)]);
    }

    #[test]
    fn an_id_that_is_taken_again_fences_and_aborts() {
        let mut broker = Broker::default();
        let old = broker.init("a", 100);
        broker.write(&old, ("t", 0), record(0), 0).unwrap();
        let new = broker.init("a", 100);
        let refused = Err(Refusal::Fenced);
        assert_eq!(broker.write(&old, ("t", 0), record(1), 0), refused);
        assert_eq!(broker.end(&old, true), Err(Refusal::Fenced));
        broker.write(&new, ("t", 0), record(2), 0).unwrap();
        assert_eq!(broker.end(&new, true), Ok(Done::Now));
        assert_eq!(broker.visible("t")[&0], [record(2)]);
    }

    #[test]
    fn what_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
        let mut broker = Broker::default();
        let producer = broker.init("a", 100);
        broker.write(&producer, ("t", 0), record(0), 10).unwrap();
        broker.expire(109);
        assert_eq!(broker.describe("a"), Some((1, 0, Some(Stand::Open))));
        broker.expire(110);
        assert_eq!(broker.describe("a"), Some((1, 1, Some(Stand::Aborted))));
        assert_eq!(broker.end(&producer, true), Err(Refusal::Fenced));
        assert_eq!(broker.timed_out, 1);
    }
}
