"""What shops call their columns."""

from typing import Final

# Names are compared in lower case without marks, so USER_ID, userId and user-id are one.
USERS: Final = (
    "userid",
    "uid",
    "user",
    "visitorid",
    "customerid",
    "memberid",
    "shopperid",
    "buyerid",
    "custid",
    *("用户id", "用户编号", "用户", "会员id", "会员编号", "会员号", "会员", "顾客id", "顾客编号"),
    *("客户id", "客户编号", "买家id", "买家"),
)

ITEMS: Final = (
    "itemid",
    "productid",
    "sku",
    "skuid",
    "asin",
    "goodsid",
    "articleid",
    "spuid",
    "iid",
    "item",
    "product",
    "nid",
    *("商品id", "商品编号", "商品编码", "商品", "宝贝id", "货号", "sku编号", "sku编码", "款号"),
)

TIMES: Final = (
    "timestamp",
    "ts",
    "eventtime",
    "time",
    "datetime",
    "eventtimestamp",
    "behaviortime",
    "timestamps",
    "createdat",
    "date",
    "day",
    *("时间", "时间戳", "事件时间", "行为时间", "发生时间", "操作时间", "日期"),
)

KINDS: Final = (
    "event",
    "eventtype",
    "kind",
    "behavior",
    "behaviour",
    "behaviortype",
    "action",
    "actiontype",
    "eventname",
    "type",
    *("行为", "行为类型", "事件", "事件类型", "事件名", "动作", "类型"),
)

REQUESTS: Final = (
    "request",
    "requestid",
    "slate",
    "slateid",
    "queryid",
    "recommendationid",
    "请求id",
)

TEXTS: Final = (
    "title",
    "name",
    "productname",
    "itemname",
    "producttitle",
    "titlezh",
    "titleen",
    "goodsname",
    *("商品标题", "标题", "商品名称", "商品名", "宝贝标题", "名称"),
)

PROFILES: Final = (
    "gender",
    "sex",
    "age",
    "ageband",
    "agerange",
    "agegroup",
    "agelevel",
    "agedesc",
    "income",
    "incomedesc",
    "incomelevel",
    "maritalstatus",
    "maritalstatuscode",
    "education",
    "occupation",
    "tier",
    "userlevel",
    "householdsize",
    "married",
    *("性别", "年龄", "年龄段", "年龄层", "收入", "婚姻", "婚姻状况", "学历", "职业", "会员等级"),
)

WEIGHTS: Final = ("weight", "sampleweight", "instanceweight", "fnlwgt")

# From the first step a shopper can take to the last; words of one step mean the same.
STEPS: Final[tuple[tuple[str, ...], ...]] = (
    ("impression", "impressions", "exposure", "expose", "shown", "show", "曝光", "展示", "展现"),
    ("view", "pv", "pageview", "viewitem", "productview", "detail", "watch", "浏览", "查看"),
    ("click", "clk", "clicks", "点击"),
    ("cart", "addtocart", "basket", "addcart", "加购", "加入购物车", "加购物车"),
    (
        *("purchase", "buy", "order", "transaction", "bought", "pay", "paid"),
        *("购买", "下单", "支付", "付款", "成交"),
    ),
)

TIANCHI: Final = {"1": "view", "2": "favourite", "3": "cart", "4": "buy"}

LABELS: Final = (
    *(word for step in STEPS for word in step),
    *("label", "target", "conversion", "converted", "y", "like", "follow", "forward", "longview"),
)

USER_BEHAVIOR: Final = ("user_id", "item_id", "category_id", "behavior", "timestamp")


def plain(name: str) -> str:
    """A column's name, by its letters and digits alone."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
