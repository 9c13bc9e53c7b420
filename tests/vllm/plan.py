"""What is asked of the engines: pure functions of a seed, so that every arm of a seed sends the same requests.

A conversation belongs to a tenant (its system prompt, perhaps a cache salt); a turn sends all messages so far. Two plans:

- `proof_plan`: requests sent one by one, in waves of conversations so that a wave together exceeds one engine's KV; the
  history holds the engines' own answers.
- `arm_plan`: the comparison: every conversation's turns mixed into one order. Its history holds written answers, not the
  engines', so that requests do not depend on who answered them.
"""

import dataclasses
import random

MODEL = "tiny"
OUTPUT_TOKENS = 12

_WORDS = {
    "english": ("time year people way day man thing woman life child world school state family student group country "
                "problem hand part place case week company system program question work government number night point "
                "home water room mother area money story fact month lot right study book eye job word business issue "
                "side kind head house service friend father power hour game line end member law car city name").split(),
    "german": ("Zeit Jahr Mensch Weg Tag Sache Leben Kind Welt Schule Staat Familie Gruppe Land Frage Hand Teil Platz "
               "Woche Firma Arbeit Zahl Nacht Punkt Haus Wasser Raum Mutter Geld Geschichte Monat Buch Auge Wort "
               "Größe Straße Übung Ärger Öl Maß Fuß Tür").split(),
    "chinese": list("的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"),
    "arabic": ("الوقت السنة الناس الطريق اليوم الشيء الحياة الطفل العالم المدرسة الدولة العائلة المجموعة البلد المشكلة "
               "اليد الجزء المكان الأسبوع الشركة النظام السؤال العمل الرقم الليل النقطة البيت الماء").split(),
    "code": ("def return if else for while import class self None True False lambda yield with as try except raise "
             "print(x) x[i] += 1 == != -> {} [] () 0x1F 3.14 \"text\" 'c' # // /* */ && || <T> std::vector<int>").split(),
    "emoji": ("😀 🚀 👩‍💻 🏳️‍🌈 ❤️ 🎉 café naïve Zürich 東京 ไทย हिन्दी ελληνικά кириллица "
              "🇩🇪 ½ € ﬁ ① ａｂｃ ").split(),
}
# Tokens that a word of it takes, about: only sizes of prompts depend on it.
_TOKENS_A_WORD = {"english": 1.0, "german": 2.1, "chinese": 1.0, "arabic": 2.6, "code": 1.8, "emoji": 3.2}


@dataclasses.dataclass(frozen=True)
class Tenant:
    name: str
    system: str
    language: str
    salt: str  # empty: none
    thinking: bool  # False: sends chat_template_kwargs, which ends the rendered prompt differently


@dataclasses.dataclass(frozen=True)
class Conversation:
    number: int
    tenant: Tenant
    users: tuple  # what the user says, turn by turn
    answers: tuple  # written answers, for histories that must not depend on the engines


@dataclasses.dataclass(frozen=True)
class Turn:
    conversation: Conversation
    turn: int
    stream: bool = False


def text(random_source, tokens, language):
    """About so many tokens of words without sense."""
    words = _WORDS[language]
    count = max(1, round(tokens / _TOKENS_A_WORD[language]))
    joint = "" if language == "chinese" else " "
    lines, line = [], []
    for _ in range(count):
        line.append(random_source.choice(words))
        if len(line) == 24:
            lines.append(joint.join(line))
            line = []
    return "\n".join([*lines, joint.join(line)])


def _tenants(source, count, system_tokens, languages, salted):
    tenants = []
    for number in range(count):
        language = languages[number % len(languages)]
        system = f"You are assistant {number}.\n" + text(source, system_tokens, language)
        salt = f"salt-{number}" if salted and number % 3 == 1 else ""
        if salted and number % 5 == 4:
            # The same prompt as another tenant's, under a salt of its own: the two must never share a block.
            language, system, salt = tenants[-1].language, tenants[-1].system, f"own-{number}"
        tenants.append(Tenant(f"tenant-{number}", system, language, salt, not salted or number % 4 != 3))
    return tenants


def _conversations(source, tenants, each, turns, user_tokens):
    made = []
    for tenant in tenants:
        for _ in range(each):
            number = len(made)
            sizes = [round(user_tokens * source.uniform(0.5, 1.5)) for _ in range(turns)]
            users = tuple(f"({number}) " + text(source, size, tenant.language) for size in sizes)
            answers = tuple(text(source, OUTPUT_TOKENS, tenant.language) for _ in range(turns))
            made.append(Conversation(number, tenant, users, answers))
    return made


def mixed(source, conversations, turns, apart):
    """All turns in one order: a conversation's in sequence, at least `apart` others between two of them where there are
    enough conversations left."""
    done = {conversation.number: 0 for conversation in conversations}
    order, recent = [], []
    while len(order) < len(conversations) * turns:
        left = [c for c in conversations if done[c.number] < turns]
        free = [c for c in left if c.number not in recent[-apart:]] if apart else left
        # Weighted by what is left to say, so that no conversation is left over for the end.
        chosen = source.choices(free or left, [turns - done[c.number] for c in free or left])[0]
        order.append((chosen, done[chosen.number]))
        done[chosen.number] += 1
        recent.append(chosen.number)
    return order


def arm_plan(seed, tenants=10, each=3, turns=4, system_tokens=700, user_tokens=65, apart=6):
    source = random.Random(f"arm {seed}")
    people = _tenants(source, tenants, system_tokens, ("english",), salted=False)
    conversations = _conversations(source, people, each, turns, user_tokens)
    return [Turn(conversation, turn) for conversation, turn in mixed(source, conversations, turns, apart)]


def proof_plan(seed, requests, tenants_a_wave=5, each=3, turns=4, system_tokens=700, user_tokens=65):
    """So many turns, in waves; every fourth request streams."""
    source = random.Random(f"proof {seed}")
    languages = ("english", "chinese", "german", "code", "arabic", "emoji")
    wave = tenants_a_wave * each * turns
    tenants = _tenants(source, -(-requests // wave) * tenants_a_wave, system_tokens, languages, salted=True)
    order = []
    conversations = _conversations(source, tenants, each, turns, user_tokens)
    for at in range(0, len(conversations), tenants_a_wave * each):
        order += mixed(source, conversations[at:at + tenants_a_wave * each], turns, apart=1)
    return [Turn(conversation, turn, stream=number % 4 == 3)
            for number, (conversation, turn) in enumerate(order[:requests])]


def body(turn, answers=None):
    """The chat request of a turn. `answers`: what was answered so far; unset: the written ones."""
    conversation, tenant = turn.conversation, turn.conversation.tenant
    given = conversation.answers if answers is None else answers
    messages = [{"role": "system", "content": tenant.system}]
    for earlier in range(turn.turn):
        messages.append({"role": "user", "content": conversation.users[earlier]})
        messages.append({"role": "assistant", "content": given[earlier]})
    messages.append({"role": "user", "content": conversation.users[turn.turn]})
    made = {"model": MODEL, "messages": messages, "max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True}
    if tenant.salt:
        made["cache_salt"] = tenant.salt
    if not tenant.thinking:
        made["chat_template_kwargs"] = {"enable_thinking": False}
    if turn.stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return made
