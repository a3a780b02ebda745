//! Types of values, for functions that keep some of their argument's values.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::types::{ArrowPrimitiveType, ByteArrayType};
use arrow_array::{Array, ArrayRef, BooleanArray, GenericByteArray, PrimitiveArray};
use arrow_schema::DataType;

/// How values of one type are read, ordered, kept and written.
pub(super) trait Kind: Send + 'static {
    /// Values in a column.
    type Array: Array + 'static;
    /// A value on its own.
    type Value: Clone + Send + 'static;
    /// Whether a value is kept without an allocation.
    const INLINE: bool;

    /// The value of a row that is not null.
    fn value(array: &Self::Array, row: usize) -> Self::Value;

    /// How the value of a row that is not null stands to another.
    fn order(array: &Self::Array, row: usize, other: &Self::Value) -> Ordering;

    /// How two values stand to each other: as SQL compares them.
    fn compare(one: &Self::Value, other: &Self::Value) -> Ordering;

    /// Whether nobody can tell two values apart.
    fn same(one: &Self::Value, other: &Self::Value) -> bool {
        Self::compare(one, other) == Ordering::Equal
    }

    /// A column of values.
    fn column<'a>(&self, values: impl Iterator<Item = Option<&'a Self::Value>>) -> ArrayRef;

    /// Bytes of a value that lie elsewhere.
    fn bytes(_: &Self::Value) -> usize {
        0
    }
}

/// Numbers that SQL orders.
pub(super) trait Number: Copy + Send {
    /// NaN equals NaN and is greater than every other number; -0.0 equals 0.0.
    fn order(self, other: Self) -> Ordering;
    /// Whether nobody can tell them apart.
    fn same(self, other: Self) -> bool;
}

macro_rules! exact {
    ($($number:ty),*) => {
        $(impl Number for $number {
            fn order(self, other: Self) -> Ordering {
                self.cmp(&other)
            }

            fn same(self, other: Self) -> bool {
                self == other
            }
        })*
    };
}

exact!(i32, i64, i128);

impl Number for f64 {
    fn order(self, other: Self) -> Ordering {
        self.partial_cmp(&other)
            .unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
    }

    fn same(self, other: Self) -> bool {
        self.to_bits() == other.to_bits() || self.is_nan() && other.is_nan()
    }
}

/// Numbers, times and dates.
pub(super) struct Primitive<P> {
    data_type: DataType,
    of: std::marker::PhantomData<fn() -> P>,
}

impl<P> Primitive<P> {
    pub(super) const fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            of: std::marker::PhantomData,
        }
    }
}

impl<P: ArrowPrimitiveType> Kind for Primitive<P>
where
    P::Native: Number,
{
    type Array = PrimitiveArray<P>;
    type Value = P::Native;
    const INLINE: bool = true;

    fn value(array: &Self::Array, row: usize) -> P::Native {
        array.value(row)
    }

    fn order(array: &Self::Array, row: usize, other: &P::Native) -> Ordering {
        array.value(row).order(*other)
    }

    fn compare(one: &P::Native, other: &P::Native) -> Ordering {
        one.order(*other)
    }

    fn same(one: &P::Native, other: &P::Native) -> bool {
        one.same(*other)
    }

    fn column<'a>(&self, values: impl Iterator<Item = Option<&'a P::Native>>) -> ArrayRef {
        let array: PrimitiveArray<P> = values.map(Option::<&P::Native>::copied).collect();
        Arc::new(array.with_data_type(self.data_type.clone()))
    }
}

/// Booleans: false is less than true.
pub(super) struct Truth;

impl Kind for Truth {
    type Array = BooleanArray;
    type Value = bool;
    const INLINE: bool = true;

    fn value(array: &BooleanArray, row: usize) -> bool {
        array.value(row)
    }

    fn order(array: &BooleanArray, row: usize, other: &bool) -> Ordering {
        array.value(row).cmp(other)
    }

    fn compare(one: &bool, other: &bool) -> Ordering {
        one.cmp(other)
    }

    fn column<'a>(&self, values: impl Iterator<Item = Option<&'a bool>>) -> ArrayRef {
        let array: BooleanArray = values.map(Option::<&bool>::copied).collect();
        Arc::new(array)
    }
}

/// Texts and bytes, ordered by their bytes.
pub(super) struct Text<B> {
    of: std::marker::PhantomData<fn() -> B>,
}

impl<B> Text<B> {
    pub(super) const fn new() -> Self {
        Self {
            of: std::marker::PhantomData,
        }
    }
}

impl<B: ByteArrayType> Kind for Text<B>
where
    GenericByteArray<B>: FromBytes,
{
    type Array = GenericByteArray<B>;
    type Value = Arc<[u8]>;
    const INLINE: bool = false;

    fn value(array: &Self::Array, row: usize) -> Arc<[u8]> {
        Arc::from(AsRef::<[u8]>::as_ref(array.value(row)))
    }

    fn order(array: &Self::Array, row: usize, other: &Arc<[u8]>) -> Ordering {
        AsRef::<[u8]>::as_ref(array.value(row)).cmp(other)
    }

    fn compare(one: &Arc<[u8]>, other: &Arc<[u8]>) -> Ordering {
        one.cmp(other)
    }

    fn column<'a>(&self, values: impl Iterator<Item = Option<&'a Arc<[u8]>>>) -> ArrayRef {
        GenericByteArray::<B>::from_bytes(values.map(|value| value.map(AsRef::as_ref)))
    }

    fn bytes(value: &Arc<[u8]>) -> usize {
        value.len() + 2 * size_of::<usize>()
    }
}

/// A column of texts or bytes, made of bytes that were taken from one.
pub(super) trait FromBytes {
    fn from_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef;
}

impl FromBytes for arrow_array::BinaryArray {
    fn from_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        Arc::new(values.collect::<Self>())
    }
}

impl FromBytes for arrow_array::StringArray {
    fn from_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        // The bytes are those of a text, so that nothing is replaced.
        let texts = values.map(|value| value.map(String::from_utf8_lossy));
        Arc::new(texts.collect::<Self>())
    }
}
