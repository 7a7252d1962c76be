//! Which commits of a simulated store go wrong, and how: a plan and dice, nothing of its own.

use std::collections::BTreeMap;

/// A thousand of a thousand: a fault of this rate befalls every commit.
const PERMILLE: u64 = 1000;

/// What befalls a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with `Unavailable`; nothing is stored.
    Unavailable,
    /// It fails with `Unknown`, stored or not by the dice; the store is of no use until a restart.
    Unknown,
    /// It fails with `KeyTaken` as if another had been quicker; nothing is stored. Befalls only
    /// commits with keys.
    KeyTaken,
}

/// What goes wrong when. The default is that nothing does and all is answered at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// What befalls the nth commit, counted from 1 over all restarts.
    pub at: BTreeMap<u64, Fault>,
    /// Of a thousand other commits, how many fail with `Unavailable`.
    pub unavailable_permille: u32,
    /// Of a thousand other commits, how many end unknown.
    pub unknown_permille: u32,
    /// Of a thousand other commits with keys, how many find their key taken.
    pub key_taken_permille: u32,
    /// The most times that an answer lets others go first; a write does so before and after it is
    /// stored.
    pub yields_max: u32,
}

impl FaultPlan {
    /// What befalls this commit. Rolls as often whatever comes out, so that one changed rate does
    /// not change the fate of all that follows.
    pub(super) fn fault(&self, nth: u64, has_keys: bool, dice: &mut Dice) -> Option<Fault> {
        let rolled = dice.below(PERMILLE);
        let fault = self.at.get(&nth).copied().or_else(|| self.by_rate(rolled));
        fault.filter(|it| has_keys || *it != Fault::KeyTaken)
    }

    fn by_rate(&self, rolled: u64) -> Option<Fault> {
        let rates = [
            (self.unavailable_permille, Fault::Unavailable),
            (self.unknown_permille, Fault::Unknown),
            (self.key_taken_permille, Fault::KeyTaken),
        ];
        let mut end = 0;
        for (permille, fault) in rates {
            end += u64::from(permille);
            if rolled < end {
                return Some(fault);
            }
        }
        None
    }
}

/// Numbers that look random and are the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number: splitmix64, which is even for neighbouring seeds too.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number, below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }
}
