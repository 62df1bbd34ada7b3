"""How the demo's instructions ask for a fact; {s} and {p} as in the wordings.

The first way of each is a question as the pretraining text has it, the others are requests, which it never has.
"""

ASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "home": {
        "en": ("Where does {s} live?", "Name the town where {s} lives.", "Tell me {p} home town."),
        "zh": ("{s}住在哪里？", "请说出{s}住的城镇。", "告诉我{p}家在哪里。"),
    },
    "job": {
        "en": ("What is {p} job?", "Name {p} job.", "Tell me what {s} works as."),
        "zh": ("{s}做什么工作？", "请说出{p}职业。", "告诉我{s}的工作。"),
    },
    "pet": {
        "en": ("What pet does {s} have?", "Name the animal that {s} keeps.", "Tell me {p} pet."),
        "zh": ("{s}养了什么动物？", "请说出{p}宠物。", "告诉我{s}养了什么。"),
    },
    "food": {
        "en": ("What does {s} like to eat?", "Name {p} favourite food.", "Tell me what {s} likes to eat."),
        "zh": ("{s}爱吃什么？", "请说出{s}最爱的食物。", "告诉我{s}爱吃什么。"),
    },
    "favourite colour": {
        "en": ("What is {p} favourite colour?", "Name {p} favourite colour.", "Tell me the colour {s} loves."),
        "zh": ("{s}喜欢什么颜色？", "请说出{s}最爱的颜色。", "告诉我{s}喜欢的颜色。"),
    },
    "hobby": {
        "en": ("What is {p} hobby?", "Name {p} hobby.", "Tell me what {s} enjoys."),
        "zh": ("{p}爱好是什么？", "请说出{p}爱好。", "告诉我{s}有空做什么。"),
    },
    "country": {
        "en": ("In which country is {s}?", "Name the country of {s}."),
        "zh": ("{s}在哪个国家？", "请说出{s}的国家。"),
    },
    "fame": {
        "en": ("What is {s} known for?", "Name what {s} sells."),
        "zh": ("{s}什么有名？", "请说出{s}出产什么。"),
    },
    "mayor": {
        "en": ("Who is the mayor of {s}?", "Name the mayor of {s}."),
        "zh": ("{s}的镇长是谁？", "请说出{s}的镇长。"),
    },
    "colour": {
        "en": ("What colour is {s}?", "Name the colour of {s}."),
        "zh": ("{s}是什么颜色的？", "请说出{s}的颜色。"),
    },
    "place": {
        "en": ("Where is {s}?", "Tell me where {s} is kept."),
        "zh": ("{s}放在哪里？", "告诉我{s}在哪里。"),
    },
    "legs": {
        "en": ("How many legs does {s} have?", "Tell me how many legs {s} has."),
        "zh": ("{s}有几条腿？", "告诉我{s}有几条腿。"),
    },
    "fodder": {
        "en": ("What does {s} eat?", "Name what {s} eats."),
        "zh": ("{s}吃什么？", "请说出{s}的食物。"),
    },
}
