"""The words of the track: nouns in four languages, values of facts, names and phrases."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("german", "french", "spanish")
NAMES = ("Tom", "Anna", "Ben", "Lucy", "Max", "Eva", "Sam", "Mia")

# English / German with article / French / Spanish; * marks a feminine noun.
_NOUNS = {
    "animal": "cat/die Katze/chat/gato, dog/der Hund/chien/perro, bird/der Vogel/oiseau/pájaro, "
    "fish/der Fisch/poisson/pez, cow/die Kuh/vache*/vaca*, bear/der Bär/ours/oso, "
    "duck/die Ente/canard/pato, frog/der Frosch/grenouille*/rana*",
    "food": "apple/der Apfel/pomme*/manzana*, egg/das Ei/oeuf/huevo, cake/der Kuchen/gâteau/pastel, "
    "bread/das Brot/pain/pan, cheese/der Käse/fromage/queso, milk/die Milch/lait/leche*, "
    "soup/die Suppe/soupe*/sopa*, pear/die Birne/poire*/pera*",
    "thing": "box/die Kiste/boîte*/caja*, cup/die Tasse/tasse*/taza*, ball/der Ball/ballon/pelota*, "
    "book/das Buch/livre/libro, key/der Schlüssel/clef*/llave*, lamp/die Lampe/lampe*/lámpara*, "
    "car/das Auto/voiture*/coche, bell/die Glocke/cloche*/campana*",
    "garment": "hat/der Hut/chapeau/sombrero, coat/der Mantel/manteau/abrigo, "
    "shoe/der Schuh/chaussure*/zapato, shirt/das Hemd/chemise*/camisa*, "
    "glove/der Handschuh/gant/guante, belt/der Gürtel/ceinture*/cinturón, "
    "sock/die Socke/chaussette*/calcetín, scarf/der Schal/écharpe*/bufanda*",
    "tool": "knife/das Messer/couteau/cuchillo, spoon/der Löffel/cuillère*/cuchara*, "
    "hammer/der Hammer/marteau/martillo, saw/die Säge/scie*/sierra*, needle/die Nadel/aiguille*/aguja*, "
    "brush/die Bürste/brosse*/cepillo, rope/das Seil/corde*/cuerda*, nail/der Nagel/clou/clavo",
    "plant": "tree/der Baum/arbre/árbol, tulip/die Tulpe/tulipe*/tulipán, leaf/das Blatt/feuille*/hoja*, "
    "flower/die Blume/fleur*/flor*, bush/der Busch/buisson/arbusto, grass/das Gras/herbe*/hierba*, "
    "root/die Wurzel/racine*/raíz*, seed/der Samen/graine*/semilla*",
}

# English / German / French / Spanish. A place carries what its answer needs in each language.
_VALUES = {
    "color": "red/rot/rouge/rojo, blue/blau/bleu/azul, green/grün/vert/verde, black/schwarz/noir/negro, "
    "white/weiß/blanc/blanco, yellow/gelb/jaune/amarillo, brown/braun/marron/pardo, "
    "pink/rosa/rose/rosado",
    "place": "kitchen/der Küche/la cuisine/la cocina, garden/dem Garten/le jardin/el jardín, "
    "school/der Schule/l'école/la escuela, house/dem Haus/la maison/la casa, "
    "park/dem Park/le parc/el parque, shop/dem Laden/le magasin/la tienda, "
    "street/der Straße/la rue/la calle, room/dem Zimmer/la chambre/la sala",
    "day": "Monday/Montag/lundi/lunes, Tuesday/Dienstag/mardi/martes, "
    "Wednesday/Mittwoch/mercredi/miércoles, Thursday/Donnerstag/jeudi/jueves, "
    "Friday/Freitag/vendredi/viernes, Saturday/Samstag/samedi/sábado, Sunday/Sonntag/dimanche/domingo",
    "material": "wood/Holz/bois/madera, stone/Stein/pierre/piedra, paper/Papier/papier/papel, "
    "glass/Glas/verre/vidrio, iron/Eisen/fer/hierro, wool/Wolle/laine/lana, "
    "silk/Seide/soie/seda, clay/Lehm/argile/barro",
}


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A noun in four languages; all but the English form carry their definite article."""

    english: str
    german: str
    french: str
    spanish: str
    category: str

    def bare(self, language: str) -> str:
        """Return the noun in `language` without its article."""
        word: str = getattr(self, language)
        return word.removeprefix("l'").split(" ")[-1]


def _with_article(entry: str, feminine: str, masculine: str, elides: bool) -> str:
    word = entry.rstrip("*")
    if elides and word[0] in "aeiouhé":
        return f"l'{word}"
    return f"{feminine if entry.endswith('*') else masculine} {word}"


def _noun(entry: str, category: str) -> Noun:
    english, german, french, spanish = entry.split("/")
    return Noun(
        english=english,
        german=german,
        french=_with_article(french, "la", "le", elides=True),
        spanish=_with_article(spanish, "la", "el", elides=False),
        category=category,
    )


NOUNS = tuple(_noun(entry, category) for category, line in _NOUNS.items() for entry in line.split(", "))
CATEGORIES: dict[str, tuple[str, ...]] = {
    category: tuple(noun.english for noun in NOUNS if noun.category == category) for category in _NOUNS
}
ENGLISH_NOUNS = tuple(noun.english for noun in NOUNS)

VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    relation: {
        language: tuple(entry.split("/")[position] for entry in line.split(", "))
        for position, language in enumerate(("english", *LANGUAGES))
    }
    for relation, line in _VALUES.items()
}
"""Values by relation and language; the same index is the same value."""
RELATIONS = tuple(VALUES)

NUMBER_WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
OPPOSITES = tuple(
    (left, right)
    for left, right in (
        pair.split("/")
        for pair in [
            "big/small",
            "hot/cold",
            "fast/slow",
            "old/new",
            "good/bad",
            "high/low",
            "long/short",
            "rich/poor",
            "wet/dry",
            "hard/soft",
            "full/empty",
            "open/closed",
            "happy/sad",
            "light/dark",
            "early/late",
            "strong/weak",
            "clean/dirty",
            "loud/quiet",
            "thick/thin",
            "near/far",
        ]
    )
)
