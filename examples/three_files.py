"""Three files such as a small Chinese shop has, with what makes such files hard to read.

``python examples/three_files.py FOLDER`` writes 商品.csv (a mark before the first column, prices
with ¥ and commas), 用户.csv (GBK, dates such as 2023年05月01日) and 行为日志.csv (times such as
2024/3/1 8:05:00). Each user has a category, colour and brand to click on more often.
"""

import csv
import random
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

BRANDS = ["云栖", "棠木坊", "森野", "Luna", "白鹭", "北岸"]
COLOURS = ["红色", "雾霾蓝", "米白", "黑色", "军绿", "卡其"]
MATERIALS = ["羊毛", "纯棉", "真丝", "亚麻", "牛仔"]
KINDS = ["毛衣", "连衣裙", "衬衫", "外套", "围巾", "半身裙"]
CITIES = ["上海", "杭州", "成都", "北京", "广州", "深圳"]
AGES = ["18-24", "25-34", "35-44", "45-54", "55+", ""]


def write(
    path: Path, encoding: str, names: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """A CSV file in an encoding."""
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([names, *rows])


def main() -> None:
    """Write the three files."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(5)
    items = []
    for number in range(1, 241):
        brand, colour, material, kind = map(draw.choice, (BRANDS, COLOURS, MATERIALS, KINDS))
        title = f"{brand} {draw.choice('春夏秋冬')}季 {colour} {material} {kind}"
        price = f"¥{draw.lognormvariate(5, 0.6):,.2f}"
        items.append((f"P{number:04d}", title, kind, brand, colour, material, price))
    users, tastes = [], []
    for number in range(1, 401):
        since = datetime(2022, 1, 1) + timedelta(days=draw.randrange(700))
        facts = draw.choice(["女", "男", ""]), draw.choice(AGES), draw.choice(CITIES)
        users.append((f"U{number:05d}", *facts, since.strftime("%Y年%m月%d日")))
        tastes.append((draw.choice(KINDS), draw.choice(BRANDS), draw.choice(COLOURS)))
    log: list[tuple[datetime, str, str, str, object, str]] = []
    for (user, *_), taste in zip(users, tastes, strict=True):
        for _ in range(draw.randrange(3, 14)):
            time = datetime(2024, 3, 1, 8) + timedelta(minutes=draw.randrange(60 * 24 * 60))
            for place, item in enumerate(draw.sample(items, draw.randrange(4, 10)), start=1):
                log.append((time, user, item[0], "曝光", place, ""))
                likes = sum(a == b for a, b in zip(item[2:5], taste, strict=True))
                for kind, chance in (("点击", 0.08 + 0.17 * likes), ("加购", 0.35), ("购买", 0.5)):
                    if draw.random() > chance:
                        break
                    time_of = time + timedelta(seconds=draw.randrange(5, 3000))
                    log.append(
                        (time_of, user, item[0], kind, "", item[6] if kind == "购买" else "")
                    )
    log.sort(key=lambda row: row[0])
    said = (
        (user, item, f"{t.year}/{t.month}/{t.day} {t.hour}:{t:%M:%S}", kind, place, amount)
        for t, user, item, kind, place, amount in log
    )
    columns = ["商品编号", "商品标题", "类目", "品牌", "颜色", "材质", "价格"]
    write(folder / "商品.csv", "utf-8-sig", columns, items)
    columns = ["用户编号", "性别", "年龄段", "城市", "注册时间"]
    write(folder / "用户.csv", "gbk", columns, users)
    columns = ["用户编号", "商品编号", "时间", "行为", "位置", "金额"]
    write(folder / "行为日志.csv", "utf-8", columns, said)


if __name__ == "__main__":
    main()
