insert into "contact"."snapshot" ("contactid", "firstname", "modifiedon", "_generation", "_page")
select "contactid", "firstname", cast("modifiedon" as timestamp), $generation, $page from page;
