"""A made shop to a trained run, its report and its answers, in ten lines."""

from daogou import Guide, evaluate, fit, load, read_shop, simulate

simulate("shops/easy", "easy", users=300, items=400, exposures=20_000)
shop = read_shop("shops/easy", ["fit.epochs=6"])
fit(shop, "runs/easy")
report = evaluate(load("runs/easy"))
print(report["tasks"]["purchase"]["auc"], report["tasks"]["purchase"]["auc_interval"])
guide = Guide.load("runs/easy")
print(guide.recommend("100001", k=3))
print(guide.extract("云栖 秋季 雾霾蓝 羊毛 宽松毛衣")["spans"])
