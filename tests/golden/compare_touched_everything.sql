create or replace temp table touched_desired as
select "new_purchaseid" as "cusD365id",
       nullif(left("new_name", 100), '') as "cusName",
       nullif(case case "new_channel" when 1 then 'Web' when 2 then 'Store' end when 'Web' then 'W' else case "new_channel" when 1 then 'Web' when 2 then 'Store' end end, '') as "cusChannel",
       case when "new_quantity" = trunc("new_quantity") then try_cast("new_quantity" as bigint) end as "cusQuantity",
       nullif("new_contactid", '') as "cusContactId"
from "new_purchase"."snapshot"
where _page > 7 and (coalesce("new_gift" = false, false));

create or replace temp table touched_mirror as
with found as materialized (
  select "cusD365id", "cusName", "cusChannel", "cusQuantity", "cusContactId" from "new_purchase"."mirror"
  where rowid in (
    select rowid from "new_purchase"."mirror" where _hash in (select md5_number_lower(key) from "new_purchase"."touched")
  )
)
select * from found where "cusD365id" in (select key from "new_purchase"."touched");

delete from "new_purchase"."change_set" where key in (select key from "new_purchase"."touched");

insert into "new_purchase"."change_set"
with difference as (
  select coalesce(d."cusD365id", m."cusD365id") as key,
         case when d."cusD365id" is null then 'delete'
              when e."cusD365id" is not null then 'adopt' when r.forced and m."cusD365id" is not null then 'adopt'
              when m."cusD365id" is not null then 'update'
              else 'insert' end as kind,
         list_filter([case when d."cusName" is distinct from m."cusName" then 'cusName' end, case when d."cusChannel" is distinct from m."cusChannel" then 'cusChannel' end, case when (r.key is not null and coalesce(d."cusQuantity", 0) <> coalesce(m."cusQuantity", 0)) then 'cusQuantity' end, case when d."cusContactId" is distinct from m."cusContactId" then 'cusContactId' end], lambda name: name is not null) as changed
  from touched_desired as d
  full join touched_mirror as m on d."cusD365id" = m."cusD365id"
  left join "new_purchase"."existing" as e on d."cusD365id" = e."cusD365id"
  left join "new_purchase"."replay" as r on d."cusD365id" = r.key
  where (m."cusD365id" is null
   or d."cusD365id" is null and m."cusD365id" in (select "new_purchaseid" from "new_purchase"."snapshot")
     or d."cusD365id" is not null and (d."cusName" is distinct from m."cusName" or d."cusChannel" is distinct from m."cusChannel" or (r.key is not null and coalesce(d."cusQuantity", 0) <> coalesce(m."cusQuantity", 0)) or d."cusContactId" is distinct from m."cusContactId" or r.forced))
)
select key, kind, case when kind = 'update' then changed end as changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end as engine_calls
from difference;
