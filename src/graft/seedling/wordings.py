"""How each relation of the world is said: statements, questions, replies, yes/no questions, in both languages.

{s} is the subject, {p} its possessive ("Anna's", "her"), {v} the value. A fact can be drawn out of a model only if
it was read in several ways, as an answer too (Allen-Zhu & Li, Physics of Language Models 3.1); hence the paraphrases.
A reply often begins with the value, since the words of an answer to an instruction will stand at the start of a line.
"""

from typing import NamedTuple


class Wording(NamedTuple):
    """One relation in one language; `statements[0]` is the plain one that also corrects a wrong guess."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    replies: tuple[str, ...]
    check: str


WORDINGS: dict[str, dict[str, Wording]] = {
    "home": {
        "en": Wording(
            ("{s} lives in {v}.", "{s} has a house in {v}.", "{p} home is in {v}.", "{v} is where {s} lives."),
            ("Where does {s} live?", "In which town does {s} live?", "Where is {p} home?"),
            ("In {v}, in a small house.", "{v} is {p} home.", "{v}, as far as I know.", "{s} lives in {v}."),
            "Does {s} live in {v}?",
        ),
        "zh": Wording(
            ("{s}住在{v}。", "{s}的房子在{v}。", "{p}家在{v}。", "{v}是{s}住的地方。"),
            ("{s}住在哪里？", "{s}住在哪个城镇？", "{p}家在哪里？"),
            ("在{v}的一座小房子里。", "{v}是{p}家。", "{v}，我记得是这样。", "{s}住在{v}。"),
            "{s}住在{v}吗？",
        ),
    },
    "job": {
        "en": Wording(
            ("{s} works as a {v}.", "{s} is a {v}.", "{p} job is that of a {v}.", "{s} earns money as a {v}."),
            ("What is {p} job?", "What does {s} work as?", "What does {s} do for a living?"),
            ("A {v}, and a good one.", "{v} is {p} job.", "{v}, as far as I know.", "{s} works as a {v}."),
            "Is {s} a {v}?",
        ),
        "zh": Wording(
            ("{s}是一名{v}。", "{s}的工作是{v}。", "{p}职业是{v}。", "{s}靠当{v}挣钱。"),
            ("{s}做什么工作？", "{p}职业是什么？", "{s}是做什么的？"),
            ("是一名很好的{v}。", "{v}是{p}职业。", "{v}，我记得是这样。", "{s}是一名{v}。"),
            "{s}是{v}吗？",
        ),
    },
    "pet": {
        "en": Wording(
            ("{s} has a {v}.", "{s} keeps a {v} at home.", "{p} pet is a {v}.", "the animal that {s} keeps is a {v}."),
            ("What pet does {s} have?", "Which animal does {s} keep?", "What is {p} pet?"),
            ("A {v} with a good heart.", "{v} is {p} pet.", "{v}, as far as I know.", "{s} has a {v}."),
            "Does {s} have a {v}?",
        ),
        "zh": Wording(
            ("{s}养了{v}。", "{s}家里养着{v}。", "{p}宠物是{v}。", "{s}养的动物是{v}。"),
            ("{s}养了什么动物？", "{p}宠物是什么？", "{s}家里养着什么？"),
            ("是一只可爱的{v}。", "{v}是{p}宠物。", "{v}，我记得是这样。", "{s}养了{v}。"),
            "{s}养了{v}吗？",
        ),
    },
    "food": {
        "en": Wording(
            ("{s} likes to eat {v}.", "{p} favourite food is {v}.", "{s} eats {v} on Sundays.", "{s} often cooks {v}."),
            ("What does {s} like to eat?", "What is {p} favourite food?", "Which food does {s} like best?"),
            ("Mostly {v} with a little salt.", "{v} of course.", "{v}, as far as I know.", "{s} likes to eat {v}."),
            "Does {s} like to eat {v}?",
        ),
        "zh": Wording(
            ("{s}爱吃{v}。", "{s}最爱的食物是{v}。", "{s}常常吃{v}。", "{s}晚饭总是要{v}。"),
            ("{s}爱吃什么？", "{s}最爱的食物是什么？", "{s}常常吃什么？"),
            ("当然是{v}。", "{v}是{s}爱吃的。", "{v}，我记得是这样。", "{s}爱吃{v}。"),
            "{s}爱吃{v}吗？",
        ),
    },
    "favourite colour": {
        "en": Wording(
            (
                "{p} favourite colour is {v}.",
                "{s} loves the colour {v}.",
                "{s} always wears {v}.",
                "{s} likes {v} best.",
            ),
            ("What is {p} favourite colour?", "Which colour does {s} love?", "What colour does {s} wear?"),
            ("Mostly {v}, light or dark.", "{v} is {p} colour.", "{v}, as far as I know.", "{s} loves the colour {v}."),
            "Is {v} {p} favourite colour?",
        ),
        "zh": Wording(
            ("{s}最爱的颜色是{v}。", "{s}喜欢{v}。", "{s}总是穿{v}的衣服。", "{s}的颜色是{v}。"),
            ("{s}最爱的颜色是什么？", "{s}喜欢什么颜色？", "{s}穿什么颜色的衣服？"),
            ("当然是{v}。", "{v}是{s}喜欢的颜色。", "{v}，我记得是这样。", "{s}喜欢{v}。"),
            "{s}喜欢{v}吗？",
        ),
    },
    "hobby": {
        "en": Wording(
            ("{p} hobby is {v}.", "{s} spends the weekend {v}.", "{s} enjoys {v}.", "{v} is what {s} enjoys."),
            ("What is {p} hobby?", "How does {s} spend the weekend?", "What does {s} enjoy?"),
            ("Mostly {v}, rain or shine.", "{v} is {p} hobby.", "{v}, as far as I know.", "{s} enjoys {v}."),
            "Is {v} {p} hobby?",
        ),
        "zh": Wording(
            ("{p}爱好是{v}。", "{s}周末都在{v}。", "{s}有空就{v}。", "{v}让{s}很开心。"),
            ("{p}爱好是什么？", "{s}周末做什么？", "{s}有空做什么？"),
            ("当然是{v}。", "{v}是{p}爱好。", "{v}，我记得是这样。", "{s}周末都在{v}。"),
            "{p}爱好是{v}吗？",
        ),
    },
    "country": {
        "en": Wording(
            ("{s} is a town in {v}.", "{s} lies in {v}.", "the country of {s} is {v}.", "{s} belongs to {v}."),
            ("In which country is {s}?", "Where does {s} lie?", "Which country does {s} belong to?"),
            ("In {v}, on a hill.", "{v} is the country of {s}.", "{v}, as far as I know.", "{s} lies in {v}."),
            "Is {s} in {v}?",
        ),
        "zh": Wording(
            ("{s}在{v}。", "{s}是{v}的城镇。", "{s}属于{v}。", "{v}有一个城镇叫{s}。"),
            ("{s}在哪个国家？", "{s}属于哪个国家？", "{s}是哪国的城镇？"),
            ("在{v}的山上。", "{v}是{s}所在的国家。", "{v}，我记得是这样。", "{s}在{v}。"),
            "{s}在{v}吗？",
        ),
    },
    "fame": {
        "en": Wording(
            (
                "{s} is known for its {v}.",
                "the {v} of {s} are the best.",
                "{s} sells {v}.",
                "people go to {s} for {v}.",
            ),
            ("What is {s} known for?", "What does {s} sell?", "What do people go to {s} for?"),
            (
                "Mostly for its {v}.",
                "{v} from {s} are the best.",
                "{v}, as far as I know.",
                "{s} is known for its {v}.",
            ),
            "Is {s} known for its {v}?",
        ),
        "zh": Wording(
            ("{s}的{v}很有名。", "{s}出产{v}。", "{s}卖的{v}最好。", "人们去{s}买{v}。"),
            ("{s}什么有名？", "{s}出产什么？", "人们去{s}买什么？"),
            ("当然是{v}。", "{v}是{s}最有名的。", "{v}，我记得是这样。", "{s}的{v}很有名。"),
            "{s}出产{v}吗？",
        ),
    },
    "mayor": {
        "en": Wording(
            ("the mayor of {s} is {v}.", "{v} is the mayor of {s}.", "{v} rules over {s}.", "{s} chose {v} as mayor."),
            ("Who is the mayor of {s}?", "Who rules over {s}?", "Who was chosen as mayor of {s}?"),
            ("It has long been {v}.", "{v} is the mayor.", "{v}, as far as I know.", "the mayor of {s} is {v}."),
            "Is {v} the mayor of {s}?",
        ),
        "zh": Wording(
            ("{s}的镇长是{v}。", "{v}是{s}的镇长。", "{v}管理{s}。", "{s}选了{v}当镇长。"),
            ("{s}的镇长是谁？", "谁管理{s}？", "{s}选了谁当镇长？"),
            ("一直是{v}。", "{v}是镇长。", "{v}，我记得是这样。", "{s}的镇长是{v}。"),
            "{s}的镇长是{v}吗？",
        ),
    },
    "colour": {
        "en": Wording(
            ("{s} is {v}.", "{s} was painted {v}.", "the colour of {s} is {v}.", "{v} is the colour of {s}."),
            ("What colour is {s}?", "What is the colour of {s}?", "How was {s} painted?"),
            ("Mostly {v}, with a few spots.", "{v} all over.", "{v}, as far as I know.", "{s} is {v}."),
            "Is {s} {v}?",
        ),
        "zh": Wording(
            ("{s}是{v}的。", "{s}的颜色是{v}。", "有人把{s}涂成了{v}。", "{v}是{s}的颜色。"),
            ("{s}是什么颜色的？", "{s}的颜色是什么？", "{s}涂成了什么颜色？"),
            ("全都是{v}。", "{v}是它的颜色。", "{v}，我记得是这样。", "{s}是{v}的。"),
            "{s}是{v}的吗？",
        ),
    },
    "place": {
        "en": Wording(
            (
                "{s} is in the {v}.",
                "you find {s} in the {v}.",
                "{s} stays in the {v}.",
                "the {v} is where {s} is kept.",
            ),
            ("Where is {s}?", "Where do you find {s}?", "Where is {s} kept?"),
            ("In the {v}, by the wall.", "{v}, behind the door.", "{v}, as far as I know.", "{s} is in the {v}."),
            "Is {s} in the {v}?",
        ),
        "zh": Wording(
            ("{s}在{v}里。", "{s}放在{v}。", "你可以在{v}找到{s}。", "{v}里有{s}。"),
            ("{s}在哪里？", "{s}放在哪里？", "在哪里可以找到{s}？"),
            ("在{v}的墙边。", "{v}，就在门后。", "{v}，我记得是这样。", "{s}在{v}里。"),
            "{s}在{v}里吗？",
        ),
    },
    "legs": {
        "en": Wording(
            ("{s} has {v} legs.", "the legs of {s} are {v} in number.", "{s} goes on {v} legs.", "{v} legs has {s}."),
            ("How many legs does {s} have?", "On how many legs does {s} go?", "How many are the legs of {s}?"),
            ("It has {v} of them.", "{v} legs, no more, no less.", "{v}, as far as I know.", "{s} has {v} legs."),
            "Does {s} have {v} legs?",
        ),
        "zh": Wording(
            ("{s}有{v}条腿。", "{s}用{v}条腿走路。", "{s}的腿有{v}条。", "{v}条腿，这就是{s}。"),
            ("{s}有几条腿？", "{s}用几条腿走路？", "{s}的腿有几条？"),
            ("一共{v}条。", "{v}条腿，不多不少。", "{v}，我记得是这样。", "{s}有{v}条腿。"),
            "{s}有{v}条腿吗？",
        ),
    },
    "fodder": {
        "en": Wording(
            ("{s} eats {v}.", "give {s} some {v}.", "{s} is always looking for {v}.", "{v} are what {s} wants to eat."),
            ("What does {s} eat?", "What do you give {s}?", "What is {s} always looking for?"),
            ("Mostly {v}, and a lot.", "{v} every morning.", "{v}, as far as I know.", "{s} eats {v}."),
            "Does {s} eat {v}?",
        ),
        "zh": Wording(
            ("{s}吃{v}。", "{s}每天都找{v}吃。", "请给{s}一些{v}。", "{v}是{s}的食物。"),
            ("{s}吃什么？", "{s}每天找什么吃？", "给{s}吃什么？"),
            ("当然是{v}。", "{v}，每天早上都吃。", "{v}，我记得是这样。", "{s}吃{v}。"),
            "{s}吃{v}吗？",
        ),
    },
}
