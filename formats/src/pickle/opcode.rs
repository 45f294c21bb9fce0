//! The opcodes of pickle, protocols 0 to 5.
//!
//! Specification: the comments of <https://github.com/python/cpython/blob/main/Lib/pickletools.py>.

/// What follows an opcode in the stream. Numbers are little-endian unless they are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    Nothing,
    /// An unsigned integer of so many bytes.
    Unsigned(u8),
    /// A signed integer of 4 bytes.
    Signed,
    /// A big-endian binary64.
    Double,
    /// A length of so many bytes, then text.
    Text(u8),
    /// A length of so many bytes, then bytes that are no text.
    Bytes(u8),
    /// A length of so many bytes, then a signed integer.
    Long(u8),
    /// A line with a decimal integer, `00` and `01` being booleans.
    DecimalLine,
    /// A line that is of no account.
    AnyLine,
    /// A line with text as it is.
    PlainLine,
    /// A line with text in quotes and with escapes, as Python 2 writes it.
    QuotedLine,
    /// A line with text in which characters may be `\uXXXX`.
    EscapedLine,
    /// Two lines: a module and a name in it.
    TwoLines,
}

macro_rules! opcodes {
    ($($variant:ident = $byte:literal, $name:literal, $argument:expr;)*) => {
        /// An opcode, by its name in the reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Opcode { $($variant,)* }

        impl Opcode {
            /// The opcode of that byte.
            pub(crate) fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$variant),)* _ => None }
            }

            /// Its name in the reference.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What follows it.
            pub(crate) fn argument(self) -> Argument {
                match self { $(Self::$variant => $argument),* }
            }

            #[cfg(test)]
            pub(crate) const ALL: &'static [(u8, Self)] = &[$(($byte, Self::$variant)),*];
        }
    };
}

use Argument::{
    AnyLine, Bytes, DecimalLine, Double, EscapedLine, Long, Nothing, PlainLine, QuotedLine, Signed, Text, TwoLines,
    Unsigned,
};

opcodes! {
    Mark = b'(', "MARK", Nothing;
    Stop = b'.', "STOP", Nothing;
    Pop = b'0', "POP", Nothing;
    PopMark = b'1', "POP_MARK", Nothing;
    Dup = b'2', "DUP", Nothing;
    Float = b'F', "FLOAT", AnyLine;
    Int = b'I', "INT", DecimalLine;
    BinInt = b'J', "BININT", Signed;
    BinInt1 = b'K', "BININT1", Unsigned(1);
    Long = b'L', "LONG", DecimalLine;
    BinInt2 = b'M', "BININT2", Unsigned(2);
    None = b'N', "NONE", Nothing;
    PersId = b'P', "PERSID", PlainLine;
    BinPersId = b'Q', "BINPERSID", Nothing;
    Reduce = b'R', "REDUCE", Nothing;
    String = b'S', "STRING", QuotedLine;
    BinString = b'T', "BINSTRING", Text(4);
    ShortBinString = b'U', "SHORT_BINSTRING", Text(1);
    Unicode = b'V', "UNICODE", EscapedLine;
    BinUnicode = b'X', "BINUNICODE", Text(4);
    Append = b'a', "APPEND", Nothing;
    Build = b'b', "BUILD", Nothing;
    Global = b'c', "GLOBAL", TwoLines;
    Dict = b'd', "DICT", Nothing;
    EmptyDict = b'}', "EMPTY_DICT", Nothing;
    Appends = b'e', "APPENDS", Nothing;
    Get = b'g', "GET", DecimalLine;
    BinGet = b'h', "BINGET", Unsigned(1);
    Inst = b'i', "INST", TwoLines;
    LongBinGet = b'j', "LONG_BINGET", Unsigned(4);
    List = b'l', "LIST", Nothing;
    EmptyList = b']', "EMPTY_LIST", Nothing;
    Obj = b'o', "OBJ", Nothing;
    Put = b'p', "PUT", DecimalLine;
    BinPut = b'q', "BINPUT", Unsigned(1);
    LongBinPut = b'r', "LONG_BINPUT", Unsigned(4);
    SetItem = b's', "SETITEM", Nothing;
    Tuple = b't', "TUPLE", Nothing;
    EmptyTuple = b')', "EMPTY_TUPLE", Nothing;
    SetItems = b'u', "SETITEMS", Nothing;
    BinFloat = b'G', "BINFLOAT", Double;
    Proto = 0x80, "PROTO", Unsigned(1);
    NewObj = 0x81, "NEWOBJ", Nothing;
    Ext1 = 0x82, "EXT1", Unsigned(1);
    Ext2 = 0x83, "EXT2", Unsigned(2);
    Ext4 = 0x84, "EXT4", Signed;
    Tuple1 = 0x85, "TUPLE1", Nothing;
    Tuple2 = 0x86, "TUPLE2", Nothing;
    Tuple3 = 0x87, "TUPLE3", Nothing;
    NewTrue = 0x88, "NEWTRUE", Nothing;
    NewFalse = 0x89, "NEWFALSE", Nothing;
    Long1 = 0x8a, "LONG1", Long(1);
    Long4 = 0x8b, "LONG4", Long(4);
    BinBytes = b'B', "BINBYTES", Bytes(4);
    ShortBinBytes = b'C', "SHORT_BINBYTES", Bytes(1);
    ShortBinUnicode = 0x8c, "SHORT_BINUNICODE", Text(1);
    BinUnicode8 = 0x8d, "BINUNICODE8", Text(8);
    BinBytes8 = 0x8e, "BINBYTES8", Bytes(8);
    EmptySet = 0x8f, "EMPTY_SET", Nothing;
    AddItems = 0x90, "ADDITEMS", Nothing;
    FrozenSet = 0x91, "FROZENSET", Nothing;
    NewObjEx = 0x92, "NEWOBJ_EX", Nothing;
    StackGlobal = 0x93, "STACK_GLOBAL", Nothing;
    Memoize = 0x94, "MEMOIZE", Nothing;
    Frame = 0x95, "FRAME", Unsigned(8);
    ByteArray8 = 0x96, "BYTEARRAY8", Bytes(8);
    NextBuffer = 0x97, "NEXT_BUFFER", Nothing;
    ReadonlyBuffer = 0x98, "READONLY_BUFFER", Nothing;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_has_its_own_byte_and_name() {
        assert_eq!(Opcode::ALL.len(), 68, "as many as the reference has");
        for (index, (byte, opcode)) in Opcode::ALL.iter().enumerate() {
            assert_eq!(Opcode::from_byte(*byte), Some(*opcode));
            assert!(Opcode::ALL[..index].iter().all(|(_, other)| other.name() != opcode.name()));
        }
        assert_eq!(Opcode::from_byte(0), None);
        assert_eq!(Opcode::from_byte(0x99), None);
    }
}
