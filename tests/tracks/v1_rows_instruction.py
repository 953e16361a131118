"""Made-up rows in the published form of IFEval and the IFEval-like data, and answers that keep instructions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Rows = list[dict[str, Any]]
Given = Mapping[str, Any]

ARGUMENT_NAMES = (
    "num_highlights relation num_words num_placeholders prompt_to_repeat num_bullets section_spliter num_sections"
    " capital_relation capital_frequency keywords num_paragraphs language let_relation letter let_frequency"
    " end_phrase forbidden_words keyword frequency num_sentences postscript_marker first_word nth_paragraph"
)
"""Fields of the structs in google/IFEval's kwargs; those of other types are null."""

_SAMPLES: list[tuple[str, Given]] = [
    ("keywords:existence", {"keywords": ["harbour", "lantern"]}),
    ("keywords:frequency", {"keyword": "storm", "frequency": 3, "relation": "at least"}),
    ("keywords:frequency", {"keyword": "storm", "frequency": 2, "relation": "less than"}),
    ("keywords:forbidden_words", {"forbidden_words": ["boat", "sail"]}),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 4, "let_relation": "at least"}),
    ("language:response_language", {"language": "de"}),
    ("length_constraints:number_sentences", {"num_sentences": 4, "relation": "at least"}),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 3}),
    ("length_constraints:number_words", {"num_words": 40, "relation": "at least"}),
    ("length_constraints:number_words", {"num_words": 12, "relation": "less than"}),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "weather"},
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 3}),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}),
    ("detectable_format:number_bullet_lists", {"num_bullets": 4}),
    ("detectable_format:constrained_response", {}),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 3}),
    ("detectable_format:json_format", {}),
    ("detectable_format:title", {}),
    ("combination:two_responses", {}),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Describe a harbour at night."}),
    ("startend:end_checker", {"end_phrase": "Is there anything else I can help with?"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 5, "capital_relation": "at least"}),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}),
    ("change_case:english_capital", {}),
    ("change_case:english_lowercase", {}),
    ("punctuation:no_comma", {}),
    ("startend:quotation", {}),
]

_LANGUAGE_SAMPLES = {
    "ar": "هذا النص مكتوب باللغة العربية ويتحدث عن البحر والسفن",
    "bg": "Този текст е написан на български език и разказва за морето и корабите",
    "bn": "এই লেখাটি বাংলা ভাষায় লেখা এবং সমুদ্র ও জাহাজ সম্পর্কে বলে",
    "de": "Dieser Text ist auf Deutsch geschrieben und handelt von der See und den Schiffen",
    "en": "This text is written in English and tells of the sea and of the ships that cross it",
    "es": "Este texto está escrito en español y habla del mar y de los barcos",
    "fa": "این متن به زبان فارسی نوشته شده است و درباره دریا و کشتی‌ها صحبت می‌کند",
    "fi": "Tämä teksti on kirjoitettu suomeksi ja se kertoo merestä ja laivoista",
    "fr": "Ce texte est écrit en français et parle de la mer et des bateaux",
    "gu": "આ લખાણ ગુજરાતી ભાષામાં લખાયેલું છે અને સમુદ્ર વિશે વાત કરે છે",
    "he": "הטקסט הזה כתוב בעברית ומספר על הים ועל האוניות",
    "hi": "यह पाठ हिंदी भाषा में लिखा गया है और समुद्र तथा जहाजों के बारे में है",
    "it": "Questo testo è scritto in italiano e parla del mare e delle navi",
    "ja": "この文章は日本語で書かれていて、海と船について話しています",
    "kn": "ಈ ಪಠ್ಯವನ್ನು ಕನ್ನಡ ಭಾಷೆಯಲ್ಲಿ ಬರೆಯಲಾಗಿದೆ ಮತ್ತು ಸಮುದ್ರದ ಬಗ್ಗೆ ಹೇಳುತ್ತದೆ",
    "ko": "이 글은 한국어로 쓰였으며 바다와 배에 대해 이야기합니다",
    "ml": "ഈ വാചകം മലയാളത്തിൽ എഴുതിയതാണ് കടലിനെക്കുറിച്ച് പറയുന്നു",
    "mr": "हा मजकूर मराठी भाषेत लिहिलेला आहे आणि समुद्राबद्दल सांगतो आहे",
    "ne": "यो पाठ नेपाली भाषामा लेखिएको छ र समुद्रको बारेमा बताउँछ",
    "pa": "ਇਹ ਲਿਖਤ ਪੰਜਾਬੀ ਭਾਸ਼ਾ ਵਿੱਚ ਲਿਖੀ ਗਈ ਹੈ ਅਤੇ ਸਮੁੰਦਰ ਬਾਰੇ ਦੱਸਦੀ ਹੈ",
    "pl": "Ten tekst jest napisany po polsku i opowiada o morzu oraz o statkach",
    "pt": "Este texto está escrito em português e fala do mar e dos navios que não voltam",
    "ru": "Этот текст написан на русском языке и рассказывает о море и кораблях",
    "sw": "Maandishi haya yameandikwa kwa lugha ya Kiswahili na yanaeleza kuhusu bahari na meli",
    "ta": "இந்த உரை தமிழ் மொழியில் எழுதப்பட்டுள்ளது மற்றும் கடல் பற்றி கூறுகிறது",
    "te": "ఈ వచనం తెలుగు భాషలో రాయబడింది మరియు సముద్రం గురించి చెబుతుంది",
    "th": "ข้อความนี้เขียนเป็นภาษาไทยและเล่าเกี่ยวกับทะเลและเรือ",
    "uk": "Цей текст написано українською мовою і він розповідає про море та кораблі",
    "ur": "یہ متن اردو زبان میں لکھا گیا ہے اور سمندر اور جہازوں کے بارے میں ہے",
    "vi": "Văn bản này được viết bằng tiếng Việt và kể về biển cả và những con tàu",
}


def following(name: str, given: Given) -> str:
    """Return an answer that keeps one instruction, made by hand from what it asks for."""
    few = given.get("relation", given.get("let_relation", given.get("capital_relation"))) == "less than"
    match name.partition(":")[2]:
        case "existence":
            return f"It is about {' and '.join(given['keywords'])}."
        case "frequency":
            return "Nothing." if few else f"{given['keyword']} " * given["frequency"]
        case "letter_frequency":
            return "1 2 3" if few else given["letter"] * given["let_frequency"]
        case "response_language":
            return _LANGUAGE_SAMPLES[given["language"]]
        case "number_sentences":
            return "The sea is calm." if few else "The sea is calm. " * given["num_sentences"]
        case "number_paragraphs":
            return "\n***\n".join(["The sea is calm."] * given["num_paragraphs"])
        case "number_words":
            return "sea" if few else "sea " * given["num_words"]
        case "nth_paragraph_first_word":
            return "\n\n".join([f"{given['first_word']} is all there is."] * given["num_paragraphs"])
        case "number_placeholders":
            return "[name] " * given["num_placeholders"]
        case "postscript":
            return f"The sea is calm.\n\n{given['postscript_marker']} Goodbye"
        case "number_bullet_lists":
            return "* the sea\n" * given["num_bullets"]
        case "constrained_response":
            return "My answer is maybe."
        case "number_highlighted_sections":
            return "*the sea* and " * given["num_highlights"]
        case "multiple_sections":
            numbers = range(1, given["num_sections"] + 1)
            return "\n".join(f"{given['section_spliter']} {number}\nThe sea." for number in numbers)
        case "json_format":
            return '```json\n{"sea": ["calm", 1]}\n```'
        case "title":
            return "<<The sea>>\nIt is calm."
        case "two_responses":
            return "The sea is calm.\n******\nThe sea is wild."
        case "repeat_prompt":
            return f"{given['prompt_to_repeat']}\nThe sea is calm."
        case "end_checker":
            return f"The sea is calm. {given['end_phrase']}"
        case "capital_word_frequency":
            return "the sea" if few else "SEA " * given["capital_frequency"]
        case "english_capital":
            return _LANGUAGE_SAMPLES["en"].upper()
        case "english_lowercase":
            return _LANGUAGE_SAMPLES["en"].lower()
        case "quotation":
            return '"The sea is calm."'
        case "forbidden_words" | "no_comma":
            return "12 and 13."
    raise AssertionError(name)


def violating(name: str, given: Given) -> str:
    """Return an answer that breaks one instruction, and is no empty text."""
    few = given.get("relation", given.get("let_relation", given.get("capital_relation"))) == "less than"
    match name.partition(":")[2]:
        case "frequency":
            return f"{given['keyword']} " * given["frequency"] if few else "Nothing."
        case "letter_frequency":
            return given["letter"] * (given["let_frequency"] if few else given["let_frequency"] - 1) + " 1"
        case "forbidden_words":
            return f"Here is {given['forbidden_words'][-1].upper()}."
        case "response_language":
            return _LANGUAGE_SAMPLES["ru" if given["language"] != "ru" else "en"]
        case "number_sentences":
            return "The sea is calm. " * (given["num_sentences"] - (not few))
        case "number_paragraphs":
            return "\n***\n".join(["The sea is calm."] * (given["num_paragraphs"] + 1))
        case "number_words":
            return "sea " * (given["num_words"] - (not few))
        case "nth_paragraph_first_word":
            return "\n\n".join(["Another word."] * given["num_paragraphs"])
        case "number_placeholders":
            return "[name] " * (given["num_placeholders"] - 1) + "name"
        case "number_bullet_lists":
            return "* the sea\n" * (given["num_bullets"] + 1)
        case "capital_word_frequency":
            return "SEA " * (given["capital_frequency"] - (not few)) + "sea"
        case "english_lowercase":
            return _LANGUAGE_SAMPLES["en"]
        case "no_comma":
            return "The sea, calm."
    return "Nothing of this is here"


def following_all(pairs: list[tuple[str, Given]]) -> str:
    """Return an answer that tries to keep all of several instructions; some sets of them it does not master."""
    given = {name.partition(":")[2]: arguments for name, arguments in pairs}
    if "constrained_response" in given:
        return "My answer is maybe."
    text = _wrapped("\n".join(_body(given)), given)
    if "english_capital" in given:
        text = text.upper()
    if "english_lowercase" in given:
        text = text.lower()
    if "json_format" in given:
        text = json.dumps({"answer": text}, ensure_ascii=False)
    return f'"{text}"' if "quotation" in given else text


def _at_least(given: Mapping[str, Given], name: str) -> int:
    """Return how often `name` asks for something, 0 where it asks for fewer."""
    arguments = given.get(name, {})
    numbers = [value for key, value in arguments.items() if isinstance(value, int)]
    return 0 if "less than" in arguments.values() or not numbers else numbers[0]


def _body(given: Mapping[str, Given]) -> list[str]:
    language = given.get("response_language", {"language": "en"})["language"]
    lines = ["12" if "letter_frequency" in given else _LANGUAGE_SAMPLES[language]]
    lines += given.get("existence", {}).get("keywords", [])
    if number := _at_least(given, "frequency"):
        lines.append(" ".join([given["frequency"]["keyword"]] * number))
    if number := _at_least(given, "letter_frequency"):
        lines.append(given["letter_frequency"]["letter"] * number)
    lines.append("[name] " * _at_least(given, "number_placeholders"))
    lines.append("*sea* and " * _at_least(given, "number_highlighted_sections"))
    lines.append("SEA " * _at_least(given, "capital_word_frequency"))
    lines.append("the sea is calm. " * _at_least(given, "number_sentences"))
    lines.append("sea " * _at_least(given, "number_words"))
    lines += ["* sea"] * _at_least(given, "number_bullet_lists")
    lines += [
        f"{given['multiple_sections']['section_spliter']} {number}\nsea"
        for number in range(1, _at_least(given, "multiple_sections") + 1)
    ]
    return [line for line in lines if line]


def _wrapped(text: str, given: Mapping[str, Given]) -> str:
    if "number_paragraphs" in given:
        text = "\n***\n".join([text] + ["sea"] * (given["number_paragraphs"]["num_paragraphs"] - 1))
    if "nth_paragraph_first_word" in given:
        arguments = given["nth_paragraph_first_word"]
        first = f"{arguments['first_word']} sea"
        text = "\n\n".join([f"{first}\n{text}"] + [first] * (arguments["num_paragraphs"] - 1))
    if "two_responses" in given:
        text = f"{text}\n******\n{text} too"
    if "title" in given:
        text = f"<<sea>>\n{text}"
    if "repeat_prompt" in given:
        text = f"{given['repeat_prompt']['prompt_to_repeat']}\n{text}"
    if "postscript" in given:
        text = f"{text}\n{given['postscript']['postscript_marker']} sea"
    return f"{text}\n{given['end_checker']['end_phrase']}" if "end_checker" in given else text


def _prompt(name: str, given: Given, number: int) -> str:
    wishes = " and ".join(f"{key} = {value}" for key, value in given.items())
    return f"Write text number {number} about the sea. Mind {name.partition(':')[2]}: {wishes or 'yes'}."


def ifeval_rows(num_rows: int) -> Rows:
    """Return rows of google/IFEval."""
    rows = []
    for number in range(num_rows):
        name, given = _SAMPLES[number % len(_SAMPLES)]
        rows.append(
            {
                "key": 1000 + number,
                "prompt": _prompt(name, given, number),
                "instruction_id_list": [name],
                "kwargs": [{**dict.fromkeys(ARGUMENT_NAMES.split()), **given}],
            }
        )
    return rows


def ifeval_like_rows(num_rows: int) -> Rows:
    """Return rows of argilla/ifeval-like-data, config filtered: kwargs is JSON text, answers are given."""
    rows = []
    for number in range(num_rows):
        name, given = _SAMPLES[number * 7 % len(_SAMPLES)]
        rows.append(
            {
                "key": number,
                "prompt": _prompt(name, given, number),
                "response": following(name, given),
                "instruction_id_list": [name],
                "kwargs": json.dumps([given]),
                "prompt_level_strict_acc": True,
                "inst_level_strict_acc": [True],
                "prompt_level_loose_acc": True,
                "inst_level_loose_acc": [True],
            }
        )
    return rows


PUBLISHED_ROWS = {
    "google/IFEval||train": ifeval_rows,
    "argilla/ifeval-like-data|filtered|train": ifeval_like_rows,
}
