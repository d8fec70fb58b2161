"""Folders of known and unknown tables to proposals that parse and prepare."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daogou.config import read_shop
from daogou.errors import ConfigError, DataError
from daogou.schema import Shop
from daogou.tables import Engine, prepare
from daogou.tables.new import propose


def proposed(folder: Path) -> tuple[Shop, str]:
    text = propose(folder)
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    shop = read_shop(path)
    path.unlink()
    return shop, text


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_three_tables_of_a_shop_are_found_with_their_roles(tmp_path: Path) -> None:
    write(
        tmp_path,
        "products.csv",
        "sku,title,brand,price,image_url,spare",
        *(f"p{i},Red boot {i},b{i % 3},{i}.5,http://x/{i},same" for i in range(60)),
    )
    write(
        tmp_path,
        "customers.csv",
        "uid,city,gender,age_band",
        *(f"{i},c{i % 4},{'fm'[i % 2]},{i % 5}0s" for i in range(60)),
    )
    kinds = ["view", "click", "view", "add_to_cart", "view", "purchase"]
    write(
        tmp_path,
        "log.csv",
        "uid,sku,ts,event,device,order_no",
        *(
            f"{i % 60},p{i % 50},2024-05-{i % 28 + 1:02d} 10:00:00,{kinds[i % 6]},"
            f"{['app', 'web'][i % 2]},{i if kinds[i % 6] == 'purchase' else ''}"
            for i in range(600)
        ),
    )
    shop, text = proposed(tmp_path)
    assert shop.items and shop.users and shop.events
    assert (shop.items.key, shop.items.text) == ("sku", ("title",))
    assert shop.items.columns == ("brand", "price")
    assert "# left out: 'image_url' is different on nearly every row" in text
    assert "# left out: 'spare' has one value" in text
    assert (shop.users.columns, shop.users.profile) == (("city",), ("gender", "age_band"))
    assert shop.events.funnel == ("view", "click", "add_to_cart", "purchase")
    assert shop.events.context == ("device",)
    assert "# left out: 'order_no' numbers rows or is empty on every exposure" in text
    with Engine(threads=1) as engine:
        assert prepare(engine, shop).funnel.exposures == 300


def test_a_chinese_shops_own_files_are_found_with_their_roles(tmp_path: Path) -> None:
    """Headers in Chinese, a mark before the first, GBK, prices and dates as people write them."""
    colours = ["红色", "米白", "雾霾蓝"]
    items = [
        "商品编号,商品标题,颜色,产地,价格",
        *(
            f'P{i},{colours[i % 3]} 毛衣 {i},{colours[i % 3]},c{i % 4},"¥1,0{i:02d}.5"'
            for i in range(60)
        ),
    ]
    (tmp_path / "商品.csv").write_text("\n".join(items), encoding="utf-8-sig")
    users = ["用户编号,性别,城市", *(f"U{i},{'男女'[i % 2]},{'沪杭京'[i % 3]}" for i in range(60))]
    (tmp_path / "用户.csv").write_text("\n".join(users), encoding="gbk")
    kinds = ["曝光", "点击", "曝光", "加入购物车", "曝光", "下单"]
    write(
        tmp_path,
        "行为日志.csv",
        "用户编号,商品编号,时间,行为,位置,金额",
        *(
            f"U{i % 60},P{i % 50},2024/5/{i % 28 + 1} 9:05:00,{kinds[i % 6]},"
            f"{i % 7 if i % 2 == 0 else ''},{'¥15' if kinds[i % 6] == '下单' else ''}"
            for i in range(600)
        ),
    )
    shop, text = proposed(tmp_path)
    assert shop.items and shop.users and shop.events
    assert (shop.items.key, shop.items.text) == ("商品编号", ("商品标题",))
    assert shop.items.columns == ("颜色", "产地", "价格")
    assert shop.items.attributes == ("颜色",)  # no title says where a product is from
    assert (shop.users.key, shop.users.columns, shop.users.profile) == (
        "用户编号", ("城市",), ("性别",)
    )  # fmt: skip
    assert shop.events.funnel == ("曝光", "点击", "加入购物车", "下单")
    assert (shop.events.context, shop.events.position) == (("位置",), "位置")
    assert '# value = "金额"' in text
    with Engine(threads=1) as engine:
        assert prepare(engine, shop).funnel.exposures == 300
        assert engine.columns("items")["价格"] == "DOUBLE"


def test_amazon_personalizes_names_are_known(tmp_path: Path) -> None:
    write(
        tmp_path,
        "interactions.csv",
        "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE",
        *(f"u{i % 7},i{i % 5},{1700000000 + i},{'View' if i % 3 else 'Click'}" for i in range(90)),
    )
    write(tmp_path, "items.csv", "ITEM_ID,GENRES,PRICE", *(f"i{i},g{i % 2},{i}" for i in range(5)))
    shop, _ = proposed(tmp_path)
    assert shop.events and shop.items
    assert (shop.events.user, shop.events.item) == ("USER_ID", "ITEM_ID")
    assert shop.events.funnel == ("View", "Click")
    assert shop.items.columns == ("GENRES", "PRICE")


def test_rees46_months_are_one_glob_and_its_session_is_left_out(tmp_path: Path) -> None:
    for month in ("2019-Oct", "2019-Nov"):
        write(
            tmp_path,
            f"{month}.csv",
            "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,"
            "user_session",
            *(
                f"2019-10-01 00:{i % 60:02d}:00 UTC,{['view', 'cart', 'purchase'][i % 3]},"
                f"{i % 9},205{i % 4},shoes,b{i % 3},{i}.1,{i % 8},s{i}-x"
                for i in range(90)
            ),
        )
    shop, text = proposed(tmp_path)
    assert shop.events
    assert shop.events.path == "2019-*.csv"
    assert shop.events.funnel == ("view", "cart", "purchase")
    assert shop.events.context == ("category_id", "brand", "price")
    assert "'user_session' is different on nearly every row" in text


def test_retailrockets_long_properties_are_named_and_not_used(tmp_path: Path) -> None:
    write(
        tmp_path,
        "events.csv",
        "timestamp,visitorid,event,itemid,transactionid",
        *(
            f"{1433221332117 + i},{i % 9},{['view', 'addtocart', 'transaction'][i % 3]},{i % 5},"
            f"{i if i % 3 == 2 else ''}"
            for i in range(90)
        ),
    )
    write(
        tmp_path,
        "item_properties_part1.csv",
        "timestamp,itemid,property,value",
        *(f"1435460400000,{i % 5},categoryid,{i}" for i in range(20)),
    )
    shop, text = proposed(tmp_path)
    assert shop.events and not shop.items
    assert shop.events.funnel == ("view", "addtocart", "transaction")
    assert "#   item_properties_part1.csv: neither one row per item" in text


def test_taobaos_file_without_a_header_is_recognised(tmp_path: Path) -> None:
    kinds = ["pv", "cart", "fav", "buy"]
    write(
        tmp_path,
        "UserBehavior.csv",
        *(
            f"{1000 + i % 9},{200 + i % 7},{30 + i % 3},{kinds[i % 4]},{1511544070 + i}"
            for i in range(40)
        ),
    )
    shop, text = proposed(tmp_path)
    assert shop.events
    assert shop.events.funnel == ("pv", "cart", "buy")
    assert "#   user_id,item_id,category_id,behavior,timestamp" in text
    assert "fav (10)" in text


def test_tianchis_numbered_kinds_are_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        "user_action.csv",
        "user_id,item_id,behavior_type,item_category,time",
        *(f"{i % 9},{i % 7},{i % 4 + 1},{i % 3},2014-12-06 {i % 24:02d}" for i in range(60)),
    )
    shop, text = proposed(tmp_path)
    assert shop.events
    assert shop.events.funnel == ("1", "3", "4")
    assert "1 = view, 3 = cart, 4 = buy" in text


def test_a_wide_table_gives_labels_in_the_order_of_the_steps(tmp_path: Path) -> None:
    rows = 200
    pq.write_table(
        pa.table(
            {
                "buy": [int(i % 9 == 0) for i in range(rows)],
                "click": [int(i % 3 == 0) for i in range(rows)],
                "age": list(range(rows)),
                "is_holiday": [i % 2 for i in range(rows)],
            }
        ),
        tmp_path / "train.parquet",
    )
    shop, _ = proposed(tmp_path)
    assert shop.events
    assert shop.events.labels == ("click", "buy")
    assert shop.events.context == ("age", "is_holiday")


def test_gold_spans_name_their_attributes(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {
                "item_id": i,
                "title": f"red boot {i}",
                "spans": [{"start": 0, "end": 3, "attribute": ["colour", "kind"][i % 2]}],
            }
        )
        for i in range(30)
    ]
    spans = [[{"start": 0, "end": 3, "attribute": ["colour", "kind"][i % 2]}] for i in range(30)]
    pq.write_table(
        pa.table(
            {
                "item_id": list(range(30)),
                "title": [json.loads(line)["title"] for line in lines],
                "spans": spans,
                "annotated": [["colour", "kind"]] * 30,
            }
        ),
        tmp_path / "items.parquet",
    )
    shop, _ = proposed(tmp_path)
    assert shop.items
    assert (shop.items.spans, shop.items.annotated) == ("spans", "annotated")
    assert shop.items.attributes == ("colour", "kind")
    assert [task.name for task in shop.tasks] == ["extract"]


def test_unknown_kinds_are_ordered_by_count_and_said_to_be_a_guess(tmp_path: Path) -> None:
    write(
        tmp_path,
        "log.jsonl",
        *(
            json.dumps(
                {"user": i % 9, "item": i % 7, "time": 1700000000 + i, "type": "ab"[i % 5 == 0]}
            )
            for i in range(60)
        ),
    )
    shop, text = proposed(tmp_path)
    assert shop.events
    assert shop.events.funnel == ("a", "b")
    assert "NOT known words" in text


def test_odd_names_are_quoted_so_that_they_parse(tmp_path: Path) -> None:
    write(
        tmp_path,
        'it"ems.csv',
        '产品,item_id,title,"say ""hi"" \\ now"',
        *(f"a{i % 2},{i},t{i},x{i % 3}" for i in range(40)),
    )
    shop, _ = proposed(tmp_path)
    assert shop.items
    assert shop.items.columns == ("产品", 'say "hi" \\ now')


def test_a_column_that_names_exposures_is_their_id_and_no_input(tmp_path: Path) -> None:
    write(
        tmp_path,
        "log.csv",
        "id,user_id,item_id,ts,event",
        *(f"{i // 2},{i % 9},{i % 7},{1700000000 + i},{['view', 'buy'][i % 2]}" for i in range(60)),
    )
    shop, _ = proposed(tmp_path)
    assert shop.events
    assert (shop.events.id, shop.events.context) == ("id", ())


def test_a_log_of_one_kind_has_nothing_to_learn(tmp_path: Path) -> None:
    write(
        tmp_path,
        "orders.csv",
        "user_id,item_id,ts,event",
        *(f"{i % 9},{i % 7},{1700000000 + i},buy" for i in range(60)),
    )
    with pytest.raises(ConfigError, match=r"among: orders\.csv"):
        proposed(tmp_path)


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "items" / "day=1").mkdir(parents=True)
    pq.write_table(
        pa.table({"item_id": list(range(9)), "title": [f"t{i}" for i in range(9)]}),
        tmp_path / "items" / "day=1" / "part-0.parquet",
    )
    shop, _ = proposed(tmp_path)
    assert shop.items and shop.items.path == "items"


def test_a_shop_toml_is_never_written_over(tmp_path: Path) -> None:
    write(tmp_path, "shop.toml", "seed = 1")
    with pytest.raises(ConfigError, match=r"shop\.toml: exists already; edit it"):
        propose(tmp_path)


def test_a_folder_without_a_usable_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parquet, csv, tsv or jsonl file"):
        propose(tmp_path)
    write(tmp_path, "weather.csv", "day,rain", "1,2", "2,3")
    with pytest.raises(
        ConfigError, match=r"among: weather\.csv \(day, rain\)\. Tables are known by"
    ):
        propose(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        propose(tmp_path / "nowhere")


def test_a_repeated_column_name_is_refused_with_its_file(tmp_path: Path) -> None:
    write(tmp_path, "items.csv", "item_id,title,title", "1,a,b")
    with pytest.raises(DataError, match=r"items\.csv: .*'title' is named twice"):
        propose(tmp_path)
