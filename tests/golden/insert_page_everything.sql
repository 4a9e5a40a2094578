insert into "new_purchase"."snapshot" ("new_purchaseid", "new_name", "new_channel", "new_quantity", "new_contactid", "new_gift", "_generation", "_page")
select "new_purchaseid", "new_name", "new_channel", cast("new_quantity" as decimal(38, 10)), "new_contactid", "new_gift", $generation, $page from page;
