//! Bits, least significant first, for the tables of entropy coders.

/// Appends bits to bytes.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, count: 0 }
    }

    /// Appends the low `count` (at most 32) bits of `value`.
    pub(crate) fn put(&mut self, value: u32, count: u32) {
        let kept = u64::from(value) & ((1 << count) - 1);
        self.pending |= kept << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Appends `value` zeros and a one.
    pub(crate) fn put_unary(&mut self, value: u32) {
        self.put(1 << value, value + 1);
    }

    /// Appends a number from 1 to 2^15: the position of its top bit in unary, then the bits below that one.
    pub(crate) fn put_gamma(&mut self, value: u32) {
        let top = value.ilog2();
        self.put_unary(top);
        self.put(value, top);
    }

    /// Fills the last byte up with zeros.
    pub(crate) fn finish(self) {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

/// Takes bits off bytes; `None` past their end.
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    /// Bits taken.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Takes `count` (at most 16) bits.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let mut window = [0; 4];
        for (place, byte) in window.iter_mut().zip(self.data.get(self.at / 8..).unwrap_or_default()) {
            *place = *byte;
        }
        let shift = self.at % 8;
        self.at += count as usize;
        (self.at <= 8 * self.data.len()).then(|| u32::from_le_bytes(window) >> shift & ((1 << count) - 1))
    }

    /// Takes zeros (at most `most`) and a one, and counts the zeros.
    pub(crate) fn take_unary(&mut self, most: u32) -> Option<u32> {
        for value in 0..=most {
            if self.take(1)? == 1 {
                return Some(value);
            }
        }
        None
    }

    /// Takes a number written by [`BitWriter::put_gamma`], of at most 2^(`most`+1) - 1.
    pub(crate) fn take_gamma(&mut self, most: u32) -> Option<u32> {
        let top = self.take_unary(most)?;
        Some(1 << top | self.take(top)?)
    }

    /// The bytes after the last one touched; `None` if the last byte has bits set that were not taken.
    pub(crate) fn finish(mut self) -> Option<&'a [u8]> {
        let left = (8 - self.at % 8) % 8;
        (self.take(left as u32)? == 0).then_some(())?;
        self.data.get(self.at / 8..)
    }
}
