//! What people of the demo platform are called and what they write: Chinese, emoji, right-to-left, long and
//! markup-like texts. Knows nothing of records or of the web.

use fastrand::Rng;

const NAMES: [&str; 14] = [
    "小红帽爱吃鱼",
    "阿强的维修铺",
    "Ann Müller",
    "王大锤🔨",
    "نور الهدى",
    "שירה כהן",
    "Ngọc Trâm",
    "<b>Bold Bob</b>",
    "O'Neil & Sons \"Ltd\"",
    "👩‍👩‍👧 一家三口",
    "たぬき商店",
    "Zoë",
    "用户7391028",
    "김하늘",
];

const TITLES: [&str; 8] = [
    "三分钟学会手冲咖啡☕",
    "How we pack 500 parcels a day",
    "新品开箱：秋冬羊毛围巾",
    "直播回放｜答疑专场",
    "طريقة صنع القهوة العربية",
    "厨房小白也能做的红烧肉🍖",
    "Behind the scenes <part 2>",
    "店铺周年庆 · 全场五折",
];

const REMARKS: [&str; 16] = [
    "这个怎么买？有链接吗",
    "已下单，坐等发货📦",
    "Does it come in blue?",
    "质量很好，回购了三次👍👍👍",
    "مرحبا، كم السعر؟",
    "שלום, האם יש משלוח?",
    "哈哈哈哈哈哈😂😂",
    "尺码偏小，建议拍大一码",
    "<script>alert('hi')</script> 这样显示对吗？",
    "Tom &amp; Jerry < 3 > 2 \"quoted\" \\backslash\\",
    "第一行\n第二行\n\t缩进的第三行",
    "e\u{301}galite\u{301} – ﷽ – 🏳️‍🌈 – 𠮷野家",
    "请问保质期多久？",
    "收到了，包装破了一个角，怎么处理？",
    "1790000000 is not a time here",
    "null",
];

const LONG: &str =
    "我想说的有点长，请耐心看完：这款产品我前后买了四次，送过朋友也送过父母，每一次的包装都不太一样。";

/// How often the long text is repeated: about 4,000 characters.
const LONG_REPEATS: usize = 80;

/// Somebody's name.
pub(crate) fn name(rng: &mut Rng) -> String {
    format!("{}{}", NAMES[rng.usize(..NAMES.len())], rng.u16(10..1000))
}

/// A work's title.
pub(crate) fn title(rng: &mut Rng, number: u64) -> String {
    format!("{} #{number}", TITLES[rng.usize(..TITLES.len())])
}

/// What somebody writes; `number` makes it one of its kind. One in 32 is long.
pub(crate) fn remark(rng: &mut Rng, number: u64) -> String {
    if rng.u8(..32) == 0 {
        return format!("{} ({number})", LONG.repeat(LONG_REPEATS));
    }
    format!("{} ({number})", REMARKS[rng.usize(..REMARKS.len())])
}
