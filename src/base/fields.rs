//! Reads and writes the fields of a stored record in their order, so that each offset follows from
//! the sizes before it.

/// Takes fields from the front of a record.
///
/// # Panics
/// Each method panics beyond the end of the record. So a record is first cut to its length, which
/// its fields don't exceed.
#[derive(Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Begins at the first byte of `record`.
    #[must_use]
    pub const fn new(record: &'a [u8]) -> Fields<'a> {
        Fields(record)
    }

    /// The next `N` bytes as they are.
    #[inline]
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("a record holds its fields");
        self.0 = rest;
        *field
    }

    /// Passes over bytes that are not used.
    pub fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    /// The next big-endian number of 16 bits.
    #[inline]
    pub fn be16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    /// The next big-endian number of 32 bits.
    #[inline]
    pub fn be32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    /// The next big-endian number of 64 bits.
    #[inline]
    pub fn be64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    /// The next little-endian number of 32 bits.
    pub fn le32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next little-endian number of 64 bits.
    pub fn le64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// The next number of 16 bits in the byte order of this host.
    #[inline]
    pub fn ne16(&mut self) -> u16 {
        u16::from_ne_bytes(self.take())
    }

    /// The next number of 32 bits in the byte order of this host.
    #[inline]
    pub fn ne32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }
}

/// Puts fields into a record of zeros, from its front.
///
/// # Panics
/// [`Filler::put`] panics beyond the end of the record.
#[derive(Debug)]
pub struct Filler<'a>(&'a mut [u8]);

impl<'a> Filler<'a> {
    /// Begins at the first byte of `record`.
    pub const fn new(record: &'a mut [u8]) -> Filler<'a> {
        Filler(record)
    }

    /// Puts the next field.
    #[inline]
    pub fn put<const N: usize>(&mut self, field: [u8; N]) {
        let rest = std::mem::take(&mut self.0);
        let (place, rest) = rest.split_first_chunk_mut().expect("a record has room for its fields");
        *place = field;
        self.0 = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_each_other() {
        let mut record = [0; 41];
        let mut filler = Filler::new(&mut record);
        filler.put(*b"ab");
        filler.put([7]);
        filler.put(0x0102_u16.to_be_bytes());
        filler.put(0x0102_0304_u32.to_be_bytes());
        filler.put(0x0102_0304_0506_0708_u64.to_be_bytes());
        filler.put(0x0102_0304_u32.to_le_bytes());
        filler.put(0x0102_0304_0506_0708_u64.to_le_bytes());
        filler.put(0x0102_u16.to_ne_bytes());
        filler.put(0x0102_0304_u32.to_ne_bytes());
        let mut fields = Fields::new(&record);
        assert_eq!((fields.take(), fields.byte()), (*b"ab", 7));
        assert_eq!(
            (fields.be16(), fields.be32(), fields.be64()),
            (0x0102, 0x0102_0304, 0x0102_0304_0506_0708)
        );
        assert_eq!((fields.le32(), fields.le64()), (0x0102_0304, 0x0102_0304_0506_0708));
        assert_eq!((fields.ne16(), fields.ne32()), (0x0102, 0x0102_0304));
        fields.skip(5);
        assert_eq!(fields.byte(), 0, "what was not put is zero");
    }
}
