"""What pictures and questions say, in English and Japanese."""

from ..words import Word


def _words(table: str) -> dict[str, Word]:
    pairs = (entry.strip().split("=") for entry in table.replace("\n", ",").split(",") if entry.strip())
    return {en: Word(en, ja) for en, ja in pairs}


COLOURS = _words(
    "red=赤,blue=青,yellow=黄色,green=緑,white=白,black=黒,purple=紫,pink=ピンク,orange=オレンジ,brown=茶色"
)
"""Colours as an answer names them."""
COLOURED = _words(
    "red=赤い,blue=青い,yellow=黄色い,green=緑の,white=白い,black=黒い,purple=紫の,pink=ピンクの,orange=オレンジの,brown=茶色い"
)
"""Colours before a noun."""

CELLS = tuple(
    _words("""
        top left=左上,top=上,top right=右上,left=左,middle=真ん中,right=右,bottom left=左下,bottom=下,bottom right=右下
    """).values()
)
"""The nine places of a picture, row by row."""
CORNERS = (CELLS[0], CELLS[2], CELLS[6], CELLS[8])
SIDES = (CELLS[3], CELLS[4], CELLS[5])
BESIDE = {
    (0, 1): Word("directly to the right of", "すぐ右"),
    (0, -1): Word("directly to the left of", "すぐ左"),
    (-1, 0): Word("directly above", "すぐ上"),
    (1, 0): Word("directly below", "すぐ下"),
}
"""A neighbour's place, by (rows down, columns right)."""
WAYS = {
    (0, 1): Word("right", "右"),
    (0, -1): Word("left", "左"),
    (-1, 0): Word("above", "上"),
    (1, 0): Word("below", "下"),
}
"""A direction, by the signs of (rows down, columns right)."""

SHOPS = _words("""
    pharmacy=薬局,bookshop=本屋,flower shop=花屋,public bath=銭湯,post office=郵便局,police box=交番,hospital=病院
    library=図書館,coffee shop=喫茶店,greengrocer=八百屋,fishmonger=魚屋,butcher=肉屋,liquor shop=酒屋,barber=床屋
    dentist=歯医者,sushi restaurant=寿司屋,photo studio=写真館,tofu shop=豆腐屋,inn=旅館,pawnshop=質屋,shoe shop=靴屋
    watch shop=時計店,bank=銀行,city hall=市役所,art museum=美術館,cinema=映画館,tavern=居酒屋,optician=眼鏡店
    teahouse=茶屋,bicycle shop=自転車屋,rice shop=米屋,furniture shop=家具屋
""")
"""Shops by the words on their signs, at most four glyphs, none of which turns in vertical writing."""
DISHES = _words("""
    ramen=ラーメン,udon=うどん,soba=そば,curry=カレー,tempura bowl=天丼,beef bowl=牛丼,chicken and egg bowl=親子丼
    grilled fish=焼き魚,sashimi=刺身,pork cutlet=とんかつ,tempura=天ぷら,gyoza=餃子,yakisoba=焼きそば
    okonomiyaki=お好み焼き,takoyaki=たこ焼き,edamame=枝豆,cold tofu=冷奴,miso soup=味噌汁,fried chicken=唐揚げ
    omelette rice=オムライス,oden=おでん,yakitori=焼き鳥,rolled omelette=玉子焼き
    rice with tea=お茶漬け,shaved ice=かき氷,anmitsu=あんみつ,green tea=緑茶,coffee=コーヒー
""")
LANDMARKS = _words("""
    station=駅,school=学校,hospital=病院,library=図書館,park=公園,bank=銀行,city hall=市役所,shrine=神社,harbour=港
    airport=空港,museum=博物館,factory=工場
""")
"""Where a clock hangs."""
STATIONS = _words("""
    Kyoto=京都,Nagoya=名古屋,Kanazawa=金沢,Nagano=長野,Sendai=仙台,Hiroshima=広島,Okayama=岡山,Hakata=博多
    Morioka=盛岡,Nara=奈良,Kobe=神戸,Yokohama=横浜,Niigata=新潟,Matsumoto=松本,Takamatsu=高松,Tottori=鳥取
""")
TRAINS = _words("local=普通,rapid=快速,express=急行,limited express=特急")
CITIES = _words("Sapporo=札幌,Sendai=仙台,Niigata=新潟,Tokyo=東京,Osaka=大阪,Fukuoka=福岡,Naha=那覇")
WEATHER = _words("sunny=晴れ,cloudy=くもり,rain=雨,snow=雪,thunder=雷")
WEEKDAYS = tuple(
    _words(
        "Sunday=日曜日,Monday=月曜日,Tuesday=火曜日,Wednesday=水曜日,Thursday=木曜日,Friday=金曜日,Saturday=土曜日"
    ).values()
)
MONTHS = tuple(
    _words("""
        January=1月,February=2月,March=3月,April=4月,May=5月,June=6月,July=7月,August=8月,September=9月
        October=10月,November=11月,December=12月
    """).values()
)
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, of a year that is no leap year."""


def yen(price: int) -> Word:
    return Word(f"{price} yen", f"{price}円")


def time(minutes: int) -> Word:
    """The time `minutes` after midnight; never a full hour, which has two names in Japanese."""
    return Word(f"{minutes // 60}:{minutes % 60:02}", f"{minutes // 60}時{minutes % 60}分")


def day(number: int) -> Word:
    return Word(str(number), f"{number}日")


def degrees(number: int) -> Word:
    return Word(f"{number} degrees", f"{number}度")


def platform(number: int) -> Word:
    return Word(f"platform {number}", f"{number}番線")
