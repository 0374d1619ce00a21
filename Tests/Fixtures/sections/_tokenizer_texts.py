"""The texts of the tokenizer's golden data: plain ones and every kind of awkward one."""
import json, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "Tests/Fixtures"))

PLAIN = """a photo of a red robot on the moon
a watercolor painting of a striped cat in the jungle
pixel art of a blue mug on a table
a neon sign of a mushroom in a city at night
a statue of a monster in a meadow
an app icon of a green fish under the sea
a pencil drawing of a checkered bird
a rendering of a dirty thing
the the the
supercalifragilisticexpialidocious
a PHOTO of A Cat
CamelCase snake_case kebab-case dotted.case
mixed123numbers 42 3.14 1,000,000 1e-5 0x1F ½ ² ④ Ⅷ ٣ १२
1234567890
it's what he'd say: they've, I'm, we'll, you're, don't, can't
IT'S DON'T WE'LL 'S'T'RE
rock 'n' roll, 'tis, o'clock, dogs'
it’s a “quoted” ‘text’ — with – dashes…
a,b;c:d!e?f.g
wait... what?! no!!! (really) [yes] {maybe} <tag> |pipe|
a+b=c a-b*c/d%e^f&g@h#i$j~k`l\\m
!!!!!!!!
.................................
:-) ;-P <3 ^_^ T_T ¯\\_(ツ)_/¯
https://example.com/a/b?c=d&e=f#g
name@example.org
C:\\Users\\me\\file.txt
&amp; &lt;b&gt; &quot;x&quot; &#39; &eacute; &nbsp;
<b>bold</b> <br/> <!-- c -->
(masterpiece:1.2), ((best quality)), [blurry]
a photo of a cat, 4k, 8K, HDR, f/1.8, 35mm, ISO100
50% of 100€ is £50 or ¥99 ¢1 ₿
2×3÷4±5≠6≤7≥8∞ √2 ∑ ∫ ∂ π
5° 10′ 20″ § ¶ © ® ™ ℠ № ℃
↑↓←→ ⇒ ★☆♥♦ ✓✗ ☃ ☂
naïve café résumé Zürich Ångström façade coöperate
Crème Brûlée À LA CARTE ÉCOLE
Łódź Žižek Đorđe Æsir Œuvre ß ẞ STRASSE þorn Ð
İstanbul ISPARTA ıspanak I İ ı i̇
ΟΔΟΣ ΣΊΣΥΦΟΣ σς Σ ΑΣ ΑΣΑ Σ. ΑΣ. ΑΣ'Σ Α̈Σ ΑΣ­Α ʰΣ
ελληνικά γράμματα Ἀθῆναι ᾳ ᾼ ῼ
Привет мир ПРИВЕТ ёлка Ёж Йод
українська ї Ї і
שלום עולם שָׁלוֹם
مرحبا بالعالم السَّلَامُ عَلَيْكُمْ ﷺ ﻻ
हिन्दी में लिखा है क्षत्रिय
தமிழ் বাংলা ไทย ภาษาไทย ខ្មែរ မြန်မာ
አማርኛ ქართული Հայերեն ᏣᎳᎩ Ꭰꭰ
中文 中文字符 漢字 繁體中文字 日本語の文章
日本語テキスト、ひらがな。カタカナ！ｶﾀｶﾅ ガガ
한국어 텍스트 각 각
「引用」『二重』【括弧】〈山〉・〜ー々〆
ＦＵＬＬ　ＷＩＤＴＨ ａｂｃ １２３ ！？
𠀀𠮷𪚥 豈 更 車 丽 兀 ⼀ ㍿ ㈱
𝓗𝓮𝓵𝓵𝓸 𝕎𝕠𝕣𝕝𝕕 𝟙𝟚𝟛 ⓗⓔⓛⓛⓞ 🅰🅱
ﬁ ﬂ ﬀ ŉ ǆ ǅ Ǆ ǰ ΐ և
e\u0301 é e\u0301\u0323 ộ o\u0302\u0323 ñ n\u0303
Z\u0351\u036b\u0343a\u0329l\u034bg\u0356o\u0334
q\u0307\u0323 ≠ =\u0338 ≮ <\u0338
\u0301 leading mark
a\u20dd enclosing 1\ufe0f\u20e3 #\ufe0f\u20e3
Å Å K Ω ; · ` ´ ¨ ˆ ˜ ¸
a photo of a cat 🐱
😀😃😄😁 👍 🎉🎉
👍🏽 👩🏿 🧑🏻‍🚀
👨‍👩‍👧‍👦 👩‍❤️‍💋‍👨 🏳️‍🌈 🏴‍☠️
❤️ ❤ ☺️ ☎️ ©️ ™️
🇩🇪🇫🇷 🇺🇸 🏴󠁧󠁢󠁥󠁮󠁧󠁿
cat🐱dog🐶fish
🤖 robot🤖 🤖robot
 leading and trailing 
  many   spaces    between  
tab\tseparated\ttext
line␤breaks\r␤and\rmore␤␤
vertical\x0btab form\x0cfeed next\x85line
\x1cfile\x1dgroup\x1erecord\x1funit
nul\x00inside \x00 \x00\x00cat
bell\x07back\x08space escape\x1b[31mred del\x7f
c1\x80control\x9f
nb\xa0space en\u2002em\u2003thin\u2009hair\u200aideographic\u3000ogham\u1680
zero\u200bwidth\u200cjoiner\u200dmarks\ufeffbom word\u2060joiner
soft\u00adhyphen rtl\u202emark\u202c lrm\u200e
line\u2028separator\u2029paragraph
replacement\ufffdchar \ufffc object
private\ue000use \U000f0000plane
noncharacter\ufffe\uffff\U0001ffff
interlinear\ufff9a\ufffab\ufffb tag\U000e0041
\u180emongolian \u3164hangul \u115ffiller
<|startoftext|>
<|endoftext|>
a cat<|endoftext|>a dog
a <|startoftext|> b <|endoftext|> c
<|ENDOFTEXT|> <|EndOfText|>
<|endoftext| > < |endoftext|>
<|endoftext|><|endoftext|>
|endoftext| startoftext
<w> </w> a</w> cat</w>
Ġthe Ċ Ä ÂĠ âĢĻ
ſ 'ſ K's ıs
A.I. U.S.A. e.g. i.e. Ph.D.
a/b a//b /a/ //
-- --- -a a- a-b
__init__ _a a_ _
'' " ' `` ´´
' s 's ' 't's
don`t don´t don＇t donʼt
x² y³ H₂O CO₂ 10⁻³ m²
½ ¾ ⅓ 1½
①②③ ⑴ ⒈ 🄀 ㊀ 〇 零
Ⅰ Ⅱ ⅳ ↁ
٠١٢ ۳۴ ०१ ௧௨ ๑๒
word1word 1word word1 w0rd
ALLCAPS lower Title tItLe
ǅungla ǈubav ǋegoš
Ω ω Ω Å å
ﬃ ﬄ ﬆ
Ẁ ẁ W\u0300 ǖ u\u0308\u0304 ṩ s\u0323\u0307
각 \u1100\u1161\u11a8 \u1112\u1161\u11ab
が か\u3099 ば パ ﾊﾟ
ཀྵ ག\u0f71\u0f72 ො ෝ
𑂚 𑄮 𝅗𝅥 𝅘𝅥𝅮
꙰ ⃠ ҈ a\u0488b
ᾭ ᾯ ἄ ᾄ
ꞌ Ꞌ ꭓ Ꟑ
ⰀⰁ ⴀⴁ 𐐀𐐨 𞤀𞤢 𖹀
ჰ Ჰ ა Ა
ɑɐ ʃəʊ ˈfəʊtəʊ
a\u0345b Ͱ ͱ ͺ
⁄ ∕ ÷ ‰ ‱ ‼ ⁉ ⁇
‘’‚‛“”„‟‹›«»
– — ― ‐ ‑ ‒ − －
· • ‧ ∙ ⋅ ・ ･ …
$ € ￥ ＄ ＋ ＜ ＝ ＞ ｜ ～ ＾ ｀
a＄b a€b a™b a°b a•b
x\u0338 ∄ ∃\u0338""".split("\n")
PLAIN = [line.replace("␤", "\n") for line in PLAIN]  # a line break inside a text

MORE = [
    "", " ", "\t\n ", "\x00", "\u200d", "\u0301", "a", "é", "中", "😀", "<", "'", "1",
    "a photo of " + "very " * 60 + "big cat",
    "x" * 300, "ab" * 200, "aaaa" * 100, "1" * 100, "!" * 100, "😀" * 50, "中" * 50, "é" * 90,
    "the" * 100, "a cat " * 40 + "<|endoftext|>", "\n".join(["a photo of a robot"] * 9),
    "a photo of a cat sitting on a wooden table next to a vase, highly detailed, sharp focus, cinematic light",
    "An astronaut riding a horse on mars, trending on artstation, by greg rutkowski",
    "Ein Bild von einem grünen Männchen auf der Straße", "una foto de un niño pequeño ¿dónde? ¡aquí!",
    "une photo d'un chat à l'école", "um cão e uma maçã", "zażółć gęślą jaźń", "příliš žluťoučký kůň",
    "việt nam tiếng việt", "günaydın şehir ığdır",
]

# Placeholders: beside words and punctuation, as prefixes of one another, of other scripts, in other case.
ADDED = [
    (["<toy>"], [
        "a photo of <toy>", "<toy>", "<toy> on a beach", "a photo of <toy>'s cat", "a<toy>b", "<toy><toy>",
        "a photo of  <toy>  on a table", "<TOY> <Toy> <toy >", "(<toy>), <toy>. <toy>!", "<toy>\n<toy>\t<toy>",
        "<<toy>>", "<to<toy>y>", "toy <toy", "é<toy>é", "中<toy>文", "<toy>\u0301", "\u200d<toy>\u200d", "a cat " * 12 + "<toy>",
        "<|startoftext|><toy><|endoftext|>", "<toy>1 2<toy>", "😀<toy>😀",
    ]),
    (["<toy>", "<dog>"], ["<toy> and <dog>", "<toy><dog>", "<dog><toy><dog>", "<toy<dog>>", "a <dog>, a <toy>; a <Dog>"]),
    (["<t", "<toy>", "<toy>2", "toy>"], ["<toy>2 <toy> <t toy>", "<toy", "<toy>22", "x<ty <to", "<ttoy>", "atoy>b"]),
    (["S*", "zxq", "⁂"], ["a photo of S* dog", "s* S** *S*", "a photo of zxq dog, azxqb ZXQ", "⁂⁂*⁂"]),
    (["ägypt☕", "日本", "éé"], ["in ägypt☕ now", "ÄGYPT☕", "日本語 日 本", "caféé e\u0301e\u0301 ÉÉ"]),
    (["my toy"], ["a photo of my toy here", "my  toy My Toy my toy", "amy toys"]),
]


def clip_folder():
    """CLIP's vocabulary, made on the spot."""
    import clip_vocabulary
    clip = Path(tempfile.mkdtemp()) / "clip"
    clip_vocabulary.make(clip)
    return clip


MINI_SD = ROOT / "Models/mini-sd/tokenizer"


def write(file: Path, folder: Path, load, padded: bool):
    """`load(folder, **options)` gives a tokenizer; `padded`: keep the whole sequence of each text, too."""
    groups = [([], {}, PLAIN + MORE)] + [(added, {}, texts) for added, texts in ADDED]
    groups.append((["<toy>"], {"pad_token": "!"}, ["hello! <toy>!", "a!!b", "", "wow ! yes"]))
    result = []
    for added, options, texts in groups:
        tokenizer = load(folder, **options)
        for token in added:
            assert tokenizer.add_tokens(token) == 1, token
        cases = []
        for text in texts:
            case = {"text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids}
            if padded or options:
                case["padded"] = tokenizer(text, padding="max_length", truncation=True).input_ids
            cases.append(case)
        result.append({"added": added, **options, "cases": cases})
    lines = json.dumps(result, ensure_ascii=True, separators=(",", ":")).replace('{"text"', '\n{"text"')
    file.write_text(lines + "\n")
