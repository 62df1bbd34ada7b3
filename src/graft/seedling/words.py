"""The words of the seedling's world, each in English and Chinese, in tables by kind.

A word has one translation and stands in one table, so that every question about it has one right answer.
"""

from typing import NamedTuple


class Word(NamedTuple):
    """One word in both languages; a number or a sign is written alike in both."""

    en: str
    zh: str

    def form(self, language: str) -> str:
        """The word in `language`, "en" or "zh"."""
        return self.zh if language == "zh" else self.en


def _table(text: str) -> tuple[Word, ...]:
    return tuple(Word(*entry.split()) for entry in text.split(","))


WOMEN = _table(
    "Anna 安娜, Clara 克拉拉, Emma 艾玛, Grace 格蕾丝, Iris 伊丽, Kate 凯特, Mary 玛丽, Olive 奥莉, Rose 露丝, "
    "Tina 蒂娜, Wendy 温蒂, Julia 朱莉"
)
MEN = _table(
    "Ben 班恩, David 大卫, Frank 弗兰克, Henry 亨利, Jack 杰克, Leo 雷欧, Nick 尼克, Peter 彼得, Sam 萨姆, "
    "Victor 维克多, Tom 汤姆, Robert 罗伯特"
)
PEOPLE = WOMEN + MEN

TOWNS = _table(
    "Willowby 柳镇, Stonebridge 石桥, Redhill 红山, Whitebay 白湾, Pineford 松渡, Foxton 狐城, Greenport 绿港, "
    "Snowdale 雪谷, Lakeham 湖村, Millbrook 磨溪, Northgate 北门, Goldfield 金田"
)
COUNTRIES = _table("Norland 北国, Sunland 阳国, Eastmark 东国, Westria 西国")
WARES = _table(
    "bells 钟, lamps 灯, apples 苹果, boats 船, hats 帽子, paper 纸, tea 茶, glass 玻璃, roses 玫瑰, wool 羊毛, "
    "salt 盐, silk 丝绸"
)

COLOURS = _table(
    "red 红色, blue 蓝色, green 绿色, yellow 黄色, white 白色, black 黑色, brown 棕色, pink 粉色, grey 灰色, "
    "purple 紫色"
)
JOBS = _table(
    "baker 面包师, doctor 医生, farmer 农民, teacher 老师, painter 画家, sailor 水手, singer 歌手, tailor 裁缝, "
    "pilot 飞行员, nurse 护士, carpenter 木匠, gardener 园丁"
)
FOODS = _table(
    "noodles 面条, soup 汤, rice 米饭, bread 面包, dumplings 饺子, pancakes 煎饼, honey 蜂蜜, plums 李子, "
    "eggs 鸡蛋, wontons 馄饨, cherries 樱桃, tofu 豆腐"
)
HOBBIES = _table(
    "swimming 游泳, painting 画画, singing 唱歌, dancing 跳舞, fishing 钓鱼, running 跑步, cooking 做饭, "
    "reading 看书, sewing 缝纫, skating 滑冰, climbing 爬山, knitting 编织"
)

ANIMALS = _table(
    "dog 狗, cat 猫, horse 马, cow 牛, duck 鸭子, hen 母鸡, rabbit 兔子, mouse 老鼠, frog 青蛙, bee 蜜蜂, "
    "parrot 鹦鹉, hedgehog 刺猬, camel 骆驼, spider 蜘蛛"
)
LEGS = (4, 4, 4, 4, 2, 2, 4, 4, 4, 6, 2, 4, 4, 8)
FODDER = _table(
    "bones 骨头, cream 奶油, hay 干草, grass 草, snails 蜗牛, corn 玉米, carrots 胡萝卜, cheese 奶酪, flies 苍蝇, "
    "nectar 花蜜, seeds 种子, beetles 甲虫, thorns 荆棘, moths 飞蛾"
)

THINGS = _table(
    "lamp 台灯, chair 椅子, table 桌子, clock 时钟, kettle 水壶, umbrella 雨伞, coat 外套, basket 篮子, bottle 瓶子, "
    "bicycle 自行车, drum 鼓, kite 风筝, ladder 梯子, mirror 镜子, piano 钢琴, telescope 望远镜"
)
PLACES = _table(
    "kitchen 厨房, garden 花园, attic 阁楼, cellar 地窖, school 学校, library 图书馆, market 市场, harbour 港口, "
    "station 车站, barn 谷仓"
)
TRINKETS = _table(
    "key 钥匙, ring 戒指, coin 硬币, letter 信, book 书, ball 球, pen 笔, cup 杯子, doll 娃娃, map 地图, "
    "spoon 勺子, whistle 哨子"
)
CONTAINERS = _table("box 盒子, bag 袋子, drawer 抽屉, pocket 口袋, jar 罐子, chest 箱子, bucket 水桶, cupboard 橱柜")

DAYS = _table(
    "Monday 星期一, Tuesday 星期二, Wednesday 星期三, Thursday 星期四, Friday 星期五, Saturday 星期六, Sunday 星期日"
)
MONTHS = _table(
    "January 一月, February 二月, March 三月, April 四月, May 五月, June 六月, July 七月, August 八月, "
    "September 九月, October 十月, November 十一月, December 十二月"
)
NUMERALS = _table("zero 零, one 一, two 二, three 三, four 四, five 五, six 六, seven 七, eight 八, nine 九, ten 十")

_OPPOSITES = _table(
    "big 大, small 小, hot 热, cold 冷, long 长, short 短, high 高, low 低, fast 快, slow 慢, new 新, old 旧, rich 富, "
    "poor 穷, light 轻, heavy 重, near 近, far 远, many 多, few 少, day 白天, night 夜晚, good 好, bad 坏, hard 硬, "
    "soft 软, wet 湿, dry 干, full 满, empty 空, open 开, closed 关, thick 厚, thin 薄, early 早, late 晚, up 上, "
    "down 下, left 左, right 右, strong 强, weak 弱, bright 亮, dark 暗, wide 宽, narrow 窄, true 真, false 假"
)
OPPOSITES = tuple(zip(_OPPOSITES[::2], _OPPOSITES[1::2], strict=True))

# The words whose translation is asked for, names apart.
DICTIONARY = (
    COLOURS
    + JOBS
    + FOODS
    + HOBBIES
    + ANIMALS
    + FODDER
    + WARES
    + THINGS
    + PLACES
    + TRINKETS
    + CONTAINERS
    + NUMERALS
    + _OPPOSITES
)

# Left out of the tokenizer's corpus, so that their characters come as byte tokens, as most Chinese ones do in Llama.
BYTE_WORDS = ("馄饨", "鹦鹉", "刺猬", "骆驼", "蜘蛛", "玫瑰", "裁缝", "缝纫", "荆棘", "樱桃", "橱柜")
