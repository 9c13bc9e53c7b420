#!/usr/bin/env python3
"""Trains the demo model's tokenizer and writes data/demo_model: run once, the result is committed.

Needs the Python package `tokenizers`. The training text is made here from the word list below, so the same version of
the package gives the same files.
"""

import json
import pathlib
import random

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "demo_model"
VOCABULARY = 6144
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|tool_call|>", "<|tool_result|>"]
# Letters with one character before them, digits one by one, runs of signs, line ends, other white space.
PIECES = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""

TEMPLATE = """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}
{{- messages[0].content + '\\n\\n' }}
{%- endif %}
{{- 'Tools, one JSON object a line:\\n' }}
{%- for tool in tools %}
{{- tool | tojson + '\\n' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and loop.first %}
{%- continue %}
{%- endif %}
{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
{{- raise_exception('Unknown role: ' + message.role) }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'tool' %}
{{- '<|tool_result|>' }}
{%- endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<|tool_call|>' + call.function.name + ' ' + call.function.arguments | tojson }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

SMALL = """the of and to in is that it for as with was on are by this be at from or which an have not but one all were when
we there can more if no my what up its about than into them so some her him then two out other time only these may our
like over also after new would who such do first any their your how most now well way even must because those between
both under never same another while each last might against great where through back much before go good come should
own see men work life being day did just"""
NOUNS = """account address age agent air animal answer apple area arm army art author autumn baby ball bank base basket bath
beach bear bed bell bird block board boat body bone book border bottle bottom box boy branch bread breath bridge brother
bucket budget building bus butter button cable cache cake call camera camp candle capital card castle cat cause ceiling
cell center chain chair chance change channel chapter child circle city class clay clock cloth cloud club coast coat
coffee coin color column community company computer condition copper copy core corn corner cotton council country course
court cousin cow crew crowd crown culture cup current curtain customer cycle damage dance danger daughter deal decision
degree desert design desk detail device dinner direction disk distance doctor document dog dollar door doubt dream dress
driver duck duty eagle ear earth edge effect egg engine evening event example expert eye face fact factory family farm
father field figure film finger fire fish flag flame floor flower foot force forest form fork fox frame friend front
fruit game garden gate gateway giant gift girl glass goal gold grain grass ground group guard guest guide guitar habit
hair half hall hammer hand harbor hat head health heart heat height hill history hole holiday home hope horse hospital
hotel hour house human ice idea image industry ink insect iron island item jacket job journey judge juice key king
kitchen knee knife lab lake lamp land language law leader leaf leather leg lemon lesson letter level library light limit
line lion lip list location machine mail map market mass match material matter meal meaning measure meat memory message
metal method middle milk mind minute mirror model moment money month moon morning mother mountain mouse mouth movie
music nail name nation nature neck needle network news night noise north nose note number nurse object ocean office oil
opinion orange order oven owner page pain paint pair palace paper parent park part partner party past path peace pencil
people pepper period person phone piano picture piece pilot pipe place plan plane planet plant plate player pocket poem
point policy pond pool population port position potato power prefix price prison problem product profit program
project prompt proof purpose question queue rabbit radio rain range rate reason record region religion report request
result rice ring river road rock roof room root rope rose router rule salt sample sand scale scene school science screen
sea season seat second secret section seed sense series service shadow shape sheep sheet shelf ship shirt shoe
shop shoulder side sign silver sister size skill skin sky sleep smile smoke snow society soil soldier song sound soup
source south space speech speed spoon spring square stage stamp star state station steam steel step stick stomach stone
store storm story stream street string student study style sugar summer sun surface system table tail task taste teacher
team test theater theory thing thought thread throat thunder ticket tiger title toe token tongue tool tooth top tower
town toy track trade train tree trip trouble truck truth turn uncle unit valley value vehicle version view village voice
wall war watch water wave weather week weight west wheel window wine wing winter woman wood word world writer
year yesterday youth zone"""
VERBS = """accept act add admit agree allow appear apply argue arrive ask attack avoid begin believe belong borrow break
bring build burn buy carry catch choose claim clean clear climb close collect compare complete connect consider contain
continue control cook count cover create cross cry cut decide deliver demand describe destroy develop differ discover
discuss divide draw drink drive drop eat enjoy enter escape expect explain fail fall feed feel fight fill find finish
fit flow fly fold follow forget forgive freeze gather get give grow guess handle happen hate hear help hide hit hold hunt
hurry imagine improve include increase inform invite join jump keep kick kill know laugh lay lead learn leave lend let
lie lift listen live look lose love make manage mark marry mean meet mention miss mix move need notice obtain offer open
operate own pass pay perform permit pick play pray prefer prepare press prevent print produce promise protect prove
provide publish pull push put raise reach read realize receive recognize reduce refuse remain remember remove repair
repeat replace reply require rest return ride rise roll run save say search seem select sell send separate serve set
settle shake share shine shoot show shut sing sit solve speak spell spend spread stand start stay steal stop strike
succeed suffer suggest supply support suppose surprise swim take talk teach tear tell tend thank think throw touch travel
treat trust try understand use visit wait wake walk want warn wash waste wear win wish wonder write"""
ADJECTIVES = """able active afraid alive angry bad beautiful big bitter black blue brave bright broad broken brown busy calm
careful cheap clever cold common cool correct cruel curious dark dead deep different difficult dirty dry early easy empty
equal exact fair false famous far fast fat final fine flat free fresh friendly full general gentle glad gray green happy
hard healthy heavy high hot huge hungry important kind large late lazy little local lonely long loose loud low lucky
married modern narrow natural necessary nice old open perfect plain pleasant poor popular possible present pretty private
proud public pure quick quiet rare ready real recent red regular rich right rough round sad safe serious sharp short
simple single slow small smooth soft special steady stiff strange strong sudden sweet tall thick thin tight tiny tired
true ugly useful usual warm weak wet white whole wide wild wise wrong yellow young"""


def forms(word):
    """A word and some of its forms; that not all of them are English does not matter here."""
    stem = word[:-1] if word.endswith("e") else word
    plural = word + ("es" if word[-1] in "sxz" or word[-2:] in ("sh", "ch") else "s")
    return [word, plural, stem + "ed", stem + "ing"]


def training_text():
    small = SMALL.split()
    words = []
    for word in NOUNS.split() + ADJECTIVES.split():
        words += forms(word)[: 2 if word in NOUNS.split() else 1]
    for word in VERBS.split():
        words += forms(word)
    words = sorted(set(words))
    source = random.Random(20261123)
    lines = []
    # Every word both after a space and at the start, so that both forms become tokens of their own.
    for _ in range(40):
        source.shuffle(words)
        sentence = []
        for word in words:
            sentence.append(word)
            if source.random() < 0.4:
                sentence.append(source.choice(small))
            if len(sentence) > 9 and source.random() < 0.3:
                text = " ".join(sentence)
                lines.append(text[0].upper() + text[1:] + source.choice([".", ".", "?", "!", ","]))
                sentence = []
    common = small * 3 + source.sample(words, 300)
    for word in common:
        lines += [word] * 30
    lines += [f"{a}{b}{c}, {b}.{c} ({a})" for a in range(10) for b in range(10) for c in range(10)]
    return lines


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    # Added after the training: special ids stand behind the words, as in the models that this one stands for.
    tokenizer.add_special_tokens(SPECIAL)
    FOLDER.mkdir(parents=True, exist_ok=True)
    parsed = json.loads(tokenizer.to_str())
    text = json.dumps(parsed, ensure_ascii=False, separators=(",", ":"))
    (FOLDER / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    size = tokenizer.get_vocab_size()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 131072,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": size,
        "max_position_embeddings": 131072,
        "eos_token_id": [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")],
    }
    (FOLDER / "config.json").write_text(json.dumps(model, indent=2) + "\n")
    print(f"tokenizers {tokenizers.__version__}: {size} ids, {len(text)} bytes")


if __name__ == "__main__":
    main()
