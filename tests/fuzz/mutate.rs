//! Changes to an input that keep most of it: what a parser believes is often wrong in one place only. The same seed
//! gives the same changes on every machine.

/// SplitMix64: small, even, and no dependency.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which may be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() % (bound.max(1) as u64)) as usize
    }
}

/// What parsers trip over, whatever they parse.
const WICKED: [&[u8]; 22] = [
    b"\0",
    b"\x1b[2J",
    b"\n",
    b"\r\n",
    b"\\",
    b"\"",
    b"'",
    b";",
    b"=",
    b"%",
    b"%n",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\xff",
    b"\xe2\x80\xae",
    b"\x1e",
    b"18446744073709551615",
    b"-1",
    b"9999999999999999999999",
    b"1e308",
];

/// The words of seeds, which are what the parser knows.
pub fn words(seeds: &[(String, Vec<u8>)]) -> Vec<Vec<u8>> {
    let part = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-_.".contains(byte);
    let all = seeds.iter().flat_map(|(_, bytes)| bytes.split(part));
    let mut words: Vec<Vec<u8>> =
        all.filter(|word| (2..40).contains(&word.len())).map(<[u8]>::to_vec).collect();
    words.sort();
    words.dedup();
    words
}

/// One to six changes to one of the seeds.
pub fn mutated(dice: &mut Dice, seeds: &[(String, Vec<u8>)], words: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].1.clone();
    bytes.truncate(longest);
    for _ in 0..=dice.below(6) {
        change(dice, &mut bytes, seeds, words);
        bytes.truncate(longest);
    }
    bytes
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, seeds: &[(String, Vec<u8>)], words: &[Vec<u8>]) {
    let at = dice.below(bytes.len() + 1);
    let length = 2 << dice.below(8);
    let end = (at + dice.below(length)).min(bytes.len());
    match dice.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            (0..=dice.below(20)).for_each(|_| drop(bytes.splice(at..at, again.iter().copied())));
        }
        4 => drop(bytes.splice(at..end, WICKED[dice.below(WICKED.len())].iter().copied())),
        5 if !words.is_empty() => drop(bytes.splice(at..end, words[dice.below(words.len())].iter().copied())),
        6 if !words.is_empty() => drop(bytes.splice(at..at, words[dice.below(words.len())].iter().copied())),
        7 => {
            // The end of another.
            let other = &seeds[dice.below(seeds.len())].1;
            let from = dice.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 if at + 4 <= bytes.len() => {
            // Numbers of binary formats: none, all, one off.
            let number: u32 = [0, u32::MAX, 1 << 31, 1, 0x7fff_ffff, 255][dice.below(6)];
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        _ => bytes.truncate(at.max(1)),
    }
}
